import assert from 'node:assert/strict'
import { once } from 'node:events'
import { chmod, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { UpstreamCredentials } from '../../src/api/upstream-credentials-contract.ts'
import { ask, type House, house, type Member } from '../parts/house.ts'

const VALUE = 'kept-elsewhere-4711-abcdef'

describe('a secret that is kept elsewhere', () => {
  const undo: (() => Promise<void>)[] = []
  let home: House
  let boris: Member
  let file: string
  const seen: (string | undefined)[] = []
  let url: string

  before(async () => {
    home = await house({ after: (work) => void undo.push(work) })
    file = join(home.dir, 'crm-token')
    await writeFile(file, `${VALUE}\n`, { mode: 0o600 })
    const upstream = createServer((request, response) => {
      seen.push(request.headers['x-token'] as string | undefined)
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ jsonrpc: '2.0', id: 1, error: { code: -32000, message: `you sent ${request.headers['x-token']}` } }))
    }).listen(0, '127.0.0.1')
    await once(upstream, 'listening')
    undo.push(async () => void upstream.close())
    url = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}/mcp`
    await home.apply(
      'kind: role\nname: writer\nspec: { allow: [{ chaperone: any, verbs: [apply] }] }\n---\nkind: user\nname: boris\nspec: { roles: [writer] }\n',
    )
    boris = await home.enrol('boris')
    await boris.api.call('POST', '/v1/factor', { code: boris.code() })
  })
  after(async () => {
    for (const step of undo.reverse()) await step()
  })
  const reference = (from: string, name = 'crm-token') => `kind: secret\nname: ${name}\nspec: { from: ${from}, refresh: 1s }\n`

  test('rule 4: who may apply documents cannot say where secrets come from, and a command needs more than that', async () => {
    await assert.rejects(home.apply(reference(`{ file: ${file} }`), boris), /secrets/)
    await assert.rejects(home.apply(reference('{ command: [/bin/true] }'), boris), /secrets.*ca|ca.*secrets/)
    await home.apply(reference(`{ file: ${file} }`))
    // Neither changed nor deleted: that decides what an upstream gets, too.
    await assert.rejects(home.apply(reference('{ env: HOME }'), boris), /secrets/)
    await assert.rejects(boris.api.call('DELETE', '/v1/documents/secret/crm-token'), /secrets/)
  })

  test('there is one name space: what is sealed has no document, and the other way round', async () => {
    await assert.rejects(home.dana.api.call('PUT', '/v1/secrets/crm-token', { value: 'x' }), { code: 'conflict' })
    await home.dana.api.call('PUT', '/v1/secrets/sealed-one', { value: 'sealed-value-1234567890' })
    await assert.rejects(home.apply(reference('{ env: HOME }', 'sealed-one')), /sealed secret has the name/)
  })

  test('rule 5: the upstream gets it; no record, no list and no answer to anybody else does', async () => {
    await home.apply(`kind: mcp
name: crm
spec: { url: "${url}", headers: { x-token: { secret: crm-token } } }
---
kind: role
name: crm
spec: { allow: [{ mcp: crm, can: any }] }
---
kind: agent
name: bot
spec: { owner: dana, roles: [crm] }
`)
    const bot = await home.join('bot')
    // It was read when its document was applied, not only when it is used; the test waits for that.
    await home.server.parts.references.reveal('crm-token')
    const { key, certificate: cert } = bot.profile
    await ask(home.server.addresses.data, '/mcp/crm', {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
      body: JSON.stringify({
        jsonrpc: '2.0',
        id: 1,
        method: 'initialize',
        params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: VALUE, version: '1' } },
      }),
      key,
      cert,
    })
    assert.equal(seen.at(-1), VALUE)
    // What the client called itself is in the record of the handshake, and is the secret: it is masked there.
    const { store } = home.server.parts
    const leaves = await store.db.selectFrom('audit_leaves').selectAll().execute()
    const bodies = await store.db.selectFrom('audit_bodies').selectAll().execute()
    const everything = [...leaves, ...bodies]
      .flatMap((row) => Object.values(row).map((value) => (value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : String(value))))
      .join('\n')
    assert.ok(everything.includes('initialize') && !everything.includes(VALUE))
  })

  test('chaperone credentials ls shows what exists, who set it and who uses it, and never what it is', async () => {
    await assert.rejects(boris.api.call('GET', '/v1/upstream-credentials'), { code: 'no_rule' })
    const answer = await home.dana.api.call<UpstreamCredentials>('GET', '/v1/upstream-credentials')
    // Whole: a part of it could stand in a time or an id.
    assert.doesNotMatch(JSON.stringify(answer), new RegExp(`${VALUE}|sealed-value`))
    const rows = answer.credentials.map(({ kind, name, from, usedBy, setBy, usedAt, hints }) => [
      kind,
      name,
      from,
      usedBy.join(),
      setBy,
      usedAt !== undefined,
      hints.join(),
    ])
    assert.deepEqual(rows, [
      ['sealed', 'sealed-one', undefined, '', 'dana', false, 'no document names it: chaperone secret delete sealed-one'],
      ['elsewhere', 'crm-token', `file ${file}`, 'mcp/crm', 'dana', true, ''],
    ])
  })

  test('a sealed secret that a document names is not deleted by the way: whoever means it says so', async () => {
    await home.apply(
      `kind: mcp\nname: wiki\nspec: { url: "${url}", headers: { x-one: { secret: sealed-one } } }\n---\nkind: postgres\nname: shop\nspec: { address: "127.0.0.1:1", databases: [shop], auth: { password: { ro: { secret: sealed-one } } } }\n`,
    )
    const path = '/v1/secrets/sealed-one'
    await assert.rejects(home.dana.api.call('DELETE', path), { code: 'conflict', message: /named by mcp\/wiki, postgres\/shop/, fix: /--force/ })
    assert.equal(await home.server.parts.vault.reveal('sealed-one'), 'sealed-value-1234567890')
    assert.deepEqual(await home.dana.api.call('DELETE', `${path}?force=true`), { usedBy: ['mcp/wiki', 'postgres/shop'] })
    await assert.rejects(home.server.parts.vault.reveal('sealed-one'), { code: 'not_found' })
  })

  test('what cannot be had is told when its document is applied, with its place, and as long as that is so', async () => {
    const loose = join(home.dir, 'loose-token')
    await writeFile(loose, 'readable-by-everybody')
    await chmod(loose, 0o644)
    const { warnings } = await home.apply(
      `${reference('{ env: NOBODY_SET_THIS }', 'unset')}---\n${reference(`{ file: ${loose} }`, 'loose')}---\n${reference(`{ file: ${file} }`)}`,
    )
    assert.deepEqual(
      warnings.map(({ line, level, message }) => [line, level, message]),
      [
        [3, 'warning', 'The secret cannot be taken from the variable NOBODY_SET_THIS of the server: it is not set.'],
        [7, 'warning', `The secret cannot be taken from the file ${loose}: others can write it, or everybody can read it.`],
      ],
    )
    assert.match(warnings[1]!.fix!, /chmod 600/)
    const hintsOf = async (name: string) => {
      const { credentials } = await home.dana.api.call<UpstreamCredentials>('GET', '/v1/upstream-credentials')
      return credentials.find((row) => row.name === name)!.hints.join('\n')
    }
    assert.match(await hintsOf('unset'), /NOBODY_SET_THIS of the server: it is not set/)
    assert.match(await hintsOf('loose'), /everybody can read it.*chmod 600/)
    assert.equal(await hintsOf('crm-token'), '')
    await chmod(loose, 0o600)
    assert.doesNotMatch(await hintsOf('loose'), /everybody/)
  })

  test('a file that became readable for everybody is used no more', async () => {
    await chmod(file, 0o644)
    const { clock } = home.server.parts
    await new Promise<void>((over) => clock.at(clock.now() + 1_001, over)) // the shortest time for which a value is used
    await assert.rejects(home.server.parts.vault.reveal('crm-token'), {
      code: 'upstream_unavailable',
      message: /others can write it, or everybody can read it/,
    })
  })
})
