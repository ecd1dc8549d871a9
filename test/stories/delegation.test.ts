import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AuditDetail, AuditPage } from '../../src/api/audit-contract.ts'
import type { Credential, SessionRow, WhoAmI } from '../../src/api/contract.ts'
import type { DelegationRow } from '../../src/api/delegations-contract.ts'
import { type Api, openApi } from '../../src/client/api.ts'
import { type Held, heldOf } from '../../src/client/credential.ts'
import { openDataPlane } from '../../src/client/data-plane.ts'
import { makeKeyPair } from '../../src/client/key-pair.ts'
import { asOwner, connect, door, governed, invited, things, unrenewed } from '../parts/governed.ts'
import { call, holding, until } from '../parts/holding.ts'

/** boris starts a program, which hands a part of its rights on to a sub-agent: who may what, what cuts it, and what is on record. */

const WORLD = (mcp: number) => `
kind: mcp
name: files
spec: { url: "http://127.0.0.1:${mcp}/", tools: { hold: { effects: [read] }, wait: { effects: [read] }, say: { effects: [write] } } }
---
kind: mcp
name: other
spec: { url: "http://127.0.0.1:${mcp}/" }
---
kind: role
name: worker
spec: { allow: [{ mcp: any, tools: any }, { postgres: things, databases: [postgres], as: reader, can: any }] }
---
kind: user
name: boris
spec: { roles: [worker] }
---
kind: user
name: olga
spec: { roles: [worker] }
---
kind: agent
name: helper
spec: { owner: boris, roles: [worker] }
---
kind: agent
name: olga-ai
spec: { owner: olga, roles: [worker] }
---
kind: agent
name: olga-open
spec: { owner: olga, roles: [worker], may_act: [boris/claude-code] }
---
kind: profile
name: careful
spec: { limits: { resources: [mcp/files, postgres/*] }, for: 1h }
`

interface Acting {
  readonly held: Held
  readonly api: Api
}

function acting(t: { after(work: () => void): void }, address: string, key: string, credential: Credential): Acting {
  const held = heldOf(address, key, credential)
  const api = openApi({ address, authorities: held.profile.bundles.server, identity: held })
  t.after(() => api.close())
  return { held, api }
}

test('rule 7: a chain of three acts on both protocols within every link, is on record whole, and is cut whole when its first delegation is revoked', {
  timeout: 120_000,
}, async (t) => {
  const own = await governed(t)
  const { dir, dana } = own
  const upstream = await holding(t)
  const postgres = await things(t, own, WORLD(upstream.port), { nap: true })
  await asOwner(postgres, 'GRANT INSERT ON things TO reader')
  const boris = await invited(t, dana, 'boris', dir)
  const { address } = boris.profile
  const begin = async (api: Api, path: string, body: object) => {
    const { key, csr } = makeKeyPair()
    return acting(t, address, key, await api.call<Credential>('POST', path, { ...body, csr }))
  }

  // A connection that was cut cannot say why: each of these is a new one.
  const as = ({ held }: Acting) => openApi({ address, authorities: held.profile.bundles.server, identity: held })
  const client = await begin(boris.api, '/v1/runs', { client: 'claude-code', profile: 'careful' })
  const helper = await begin(client.api, '/v1/exchange', { to: 'helper', limits: { effects: ['read'] }, for: '10m' })

  await t.test('it says whom it acts for, and what was left to it, in words', async () => {
    const me = await helper.api.call<WhoAmI>('GET', '/v1/whoami')
    assert.deepEqual(
      me.chain.map(({ name, leaves }) => [name, leaves]),
      [
        ['boris', undefined],
        ['boris/claude-code', ['Only mcp/files and postgres/*.']],
        ['helper', ['Only to read.']],
      ],
    )
  })

  await t.test('nobody hands on to whom he may not, further than four links, or as a person', async () => {
    const refused = { code: 'delegation_refused' }
    for (const to of ['olga-ai', 'nobody', 'boris', 'boris/claude-code', 'olga/new'])
      await assert.rejects(begin(client.api, '/v1/exchange', { to }), refused, to)
    await assert.rejects(begin(boris.api, '/v1/exchange', { to: 'helper' }), refused)
    const named = await begin(client.api, '/v1/exchange', { to: 'olga-open' })
    assert.equal((await named.api.call<WhoAmI>('GET', '/v1/whoami')).name, 'olga-open')
    const fourth = await begin(helper.api, '/v1/exchange', { to: 'boris/scout' })
    await assert.rejects(begin(fourth.api, '/v1/exchange', { to: 'boris/fifth' }), { code: 'delegation_refused', message: /at most 4 links/ })
    for (const one of [named, fourth]) await one.api.call('POST', '/v1/logout', {})
  })

  const plane = openDataPlane(unrenewed(helper.held))
  const databaseDoor = await door(t, unrenewed(helper.held), 'things', 'postgres')

  await t.test('what any link leaves out is refused, with the words of the limit, or is not there at all', async () => {
    const written = await call(plane, 'say')
    assert.match(written, /delegation_exceeded|"code":-?\d+/)
    assert.match(written, /helper acts for boris\/claude-code, who leaves it only to read/)
    assert.match(await call(openDataPlane(unrenewed(client.held)), 'say'), /said/, 'the link before it may')
    const { resources } = await helper.api.call<{ resources: { name: string }[] }>('GET', '/v1/resources/mcp')
    assert.deepEqual(
      resources.map(({ name }) => name),
      ['files', 'things/postgres'],
    )
    const sql = await connect(t, databaseDoor, 'reader', 'postgres')
    assert.equal((await sql.query('SELECT * FROM things')).rowCount, 2)
    await assert.rejects(sql.query("INSERT INTO things VALUES (3, 'three')"), /delegation|read/)
    await sql.end()
  })

  await t.test('everything it does is on record under all of them, with the delegations between', async () => {
    const { records } = await dana.api.call<AuditPage>('GET', '/v1/audit?type=action.refused&limit=10')
    const one = records.find(({ reason }) => reason === 'delegation_exceeded')
    assert.ok(one)
    assert.deepEqual(one.chain, ['boris', 'boris/claude-code', 'helper'])
    const { envelope } = await dana.api.call<AuditDetail>('GET', `/v1/audit/records/${one.id}`)
    const { chain } = envelope as { readonly chain: readonly { readonly name: string; readonly delegation?: string }[] }
    assert.deepEqual(
      chain.map(({ name, delegation }) => [name, delegation?.slice(0, 4)]),
      [
        ['boris', undefined],
        ['boris/claude-code', 'dlg_'],
        ['helper', 'dlg_'],
      ],
    )
  })

  await t.test('the person sees it in words; whoever has no part in it sees nothing', async () => {
    const { delegations } = await boris.api.call<{ delegations: DelegationRow[] }>('GET', '/v1/delegations')
    assert.deepEqual(
      delegations.map(({ from, to, how, leaves }) => [from, to, how, leaves.join(' ')]),
      [
        ['boris/claude-code', 'helper', 'exchange', 'Only to read.'],
        ['boris', 'boris/claude-code', 'run', 'Only mcp/files and postgres/*.'],
      ],
    )
    const [handedOn, run] = delegations
    assert.match(run!.words ?? '', /^boris\/claude-code may act on behalf of boris\. It gets no more than this: Only mcp\/files and postgres\/\*\./)
    assert.equal(handedOn!.under, run!.id)
    const olga = await invited(t, dana, 'olga', dir)
    assert.deepEqual((await olga.api.call<{ delegations: DelegationRow[] }>('GET', '/v1/delegations')).delegations, [])
    const heard = await Promise.all(
      ['boris', 'nobody-at-all'].map((of) => olga.api.call('GET', `/v1/delegations?of=${of}`).catch((e: Error) => e.message.replace(of, 'X'))),
    )
    assert.equal(heard[0], heard[1], 'whether there is somebody of that name is not told (rule 8)')
    for (const method of ['GET', 'DELETE'] as const) {
      for (const id of [run!.id, `dlg_${'0'.repeat(26)}`, 'zzzzzzzz'])
        await assert.rejects(olga.api.call(method, `/v1/delegations/${id}`), { code: 'not_found' }, `${method} ${id}`)
    }
    // Who may see it hears why he may not end it.
    await assert.rejects(helper.api.call('DELETE', `/v1/delegations/${handedOn!.id}`), { code: 'delegation_exceeded' })
    await assert.rejects(helper.api.call('DELETE', `/v1/delegations/${run!.id}`), { code: 'not_found' })
  })

  await t.test('revoking the first delegation cuts what is live on both protocols at once, and every session on it', async () => {
    const [run] = (await boris.api.call<{ delegations: DelegationRow[] }>('GET', '/v1/delegations?of=boris')).delegations
    const sql = await connect(t, databaseDoor, 'reader', 'postgres')
    const ended: Record<string, string> = {}
    const over = [
      call(plane, 'hold').then((text) => (ended.mcp = text)),
      sql.query('SELECT nap()').then(
        () => (ended.sql = 'done'),
        (error: { code?: string; message: string }) => (ended.sql = `${error.code} ${error.message}`),
      ),
    ]
    await until(() => upstream.underWay() === 1)
    await boris.api.call('DELETE', `/v1/delegations/${run!.id.slice(-8)}`)
    const answered = Date.now()
    await Promise.all(over)
    t.diagnostic(`cut ${Date.now() - answered} ms after the answer`)
    assert.match(ended.mcp ?? '', /session_ended|session|delegation/i)
    assert.match(ended.sql ?? '', /57P01|28000|session|delegation/i)
    assert.notEqual(ended.sql, 'done')
    // The upstream hears of it on a connection of its own.
    await until(() => upstream.underWay() === 0)
    await assert.rejects(as(helper).call('GET', '/v1/whoami'), { code: 'session_ended' })
    await assert.rejects(begin(as(helper), '/v1/renew', {}), { code: 'session_ended' })
    const { sessions } = await boris.api.call<{ sessions: SessionRow[] }>('GET', '/v1/sessions')
    assert.deepEqual(
      sessions.map(({ identity }) => identity),
      ['boris'],
    )
    const { records } = await dana.api.call<AuditPage>('GET', '/v1/audit?type=delegation.ended&limit=10')
    assert.ok(records.length >= 2, 'both ends are on record')
    const all = (await boris.api.call<{ delegations: DelegationRow[] }>('GET', '/v1/delegations?all=1')).delegations
    assert.ok(all.every(({ endedAt }) => endedAt !== undefined))
  })

  await t.test("what was handed on ends with the person's session, however far down", async () => {
    const again = await begin(boris.api, '/v1/runs', { client: 'claude-code' })
    const below = await begin(again.api, '/v1/exchange', { to: 'helper' })
    const last = await begin(below.api, '/v1/exchange', { to: 'boris/scout' })
    await boris.api.call('POST', '/v1/logout', {})
    for (const one of [again, below, last]) await assert.rejects(as(one).call('GET', '/v1/whoami'), { code: 'session_ended' })
    const { delegations } = await dana.api.call<{ delegations: DelegationRow[] }>('GET', '/v1/delegations?of=boris')
    assert.deepEqual(delegations, [])
  })
})
