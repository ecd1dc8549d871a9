import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { FORMS } from '../config/forms.ts'
import { bringAlong, forget, offersOf, undo } from './bring.ts'
import { computer, fakeCatalog, SECRETS } from './computer.fixture.ts'
import { type FoundServer, findServers } from './find.ts'
import { type Journal, openJournals } from './journal.ts'
import { secretsIn } from './secrets.ts'

const here = { env: {}, exists: () => false }

const found = (name: string, value: unknown, more: Partial<FoundServer> = {}): FoundServer => ({
  ...{ source: { client: 'cursor', file: '/x', format: FORMS.cursor.format }, at: ['mcpServers', name], name, value, ours: false },
  ...{ secrets: secretsIn(value), ...more },
})
const namesOf = (...servers: FoundServer[]) => offersOf(servers, here).map(({ name, found }) => `${name} ${found.length}`)

async function house(t: TestContext) {
  const place = await computer(t)
  const journals = openJournals(join(place.home, 'chaperone'))
  const catalog = fakeCatalog()
  const offers = async (...names: string[]) => offersOf((await findServers(place, [])).servers, here).filter(({ name }) => names.includes(name))
  const bring = async (now: number, ...names: string[]) =>
    bringAlong(await offers(...names), { catalog, journals, way: {}, server: 'gw:7443', clock: { now: () => now } as never })
  return { place, journals, catalog, offers, bring, file: (path: string) => join(place.home, path) }
}

test('what is the same in two files is offered once; what differs in its program, its address or its secret is another', () => {
  const one = { command: 'npx', args: ['server'], env: { API_KEY: 'abcdef' } }
  assert.deepEqual(namesOf(found('gh', one), found('GH', one)), ['gh 2'])
  assert.deepEqual(namesOf(found('gh', one), found('gh', { ...one, args: ['other'] })), ['gh 1', 'gh-2 1'])
  assert.deepEqual(namesOf(found('gh', one), found('gh', { ...one, env: { API_KEY: 'another' } })), ['gh 1', 'gh-2 1'])
  // What cannot be brought along is never what another is.
  assert.deepEqual(namesOf(found('gh', one), found('gh', {}), found('gh', {})), ['gh 1', 'gh-2 1', 'gh-3 1'])
  assert.deepEqual(namesOf(found('gh', one, { copy: true }), found('gh', one, { ours: true })), [])
})

test('what cannot be brought along is left out, and takes nothing else with it', async (t) => {
  const { offers, catalog, journals } = await house(t)
  const cannot = { name: 'x', found: [], is: { cannot: 'only its client knows' } }
  const { brought } = await bringAlong([cannot, ...(await offers('plain'))], { catalog, journals, way: {}, server: 'gw:7443' })
  assert.deepEqual(
    brought.map(({ name, state }) => `${name} ${state}`),
    ['plain moved'],
  )
})

test('a server that is there already, from another computer, is taken as it is', async (t) => {
  const { bring, catalog } = await house(t)
  catalog.documents.set('plain', { name: 'plain', spec: { url: 'https://plain.example/mcp' } })
  const { brought } = await bring(1, 'plain')
  assert.deepEqual(
    brought.map(({ name, state }) => `${name} ${state}`),
    ['plain moved'],
  )
  assert.deepEqual([...catalog.documents.keys()], ['plain'])
})

test('an import at another server that was interrupted is not gone on with', async (t) => {
  const { bring, journals } = await house(t)
  const begun: Journal = { v: 1, id: 'other', at: 5, server: 'elsewhere:7443', state: 'begun', files: [], secrets: ['mcp/plain/x'] }
  await journals.save(begun)
  const { journal } = await bring(1_000_000, 'plain')
  assert.notEqual(journal, 'other')
  assert.deepEqual(
    (await journals.list()).find(({ id }) => id === 'other'),
    begun,
  )
})

test('rule 5: secrets that were moved for a server which nobody wants then are taken back, and nothing is left to go on with', async (t) => {
  const { offers, catalog, journals } = await house(t)
  const declining = { ...catalog, add: async () => false }
  const { brought, journal } = await bringAlong(await offers('linear'), { catalog: declining, journals, way: {}, server: 'gw:7443' })
  assert.deepEqual([brought[0]?.state, journal], ['declined', undefined])
  assert.deepEqual(await journals.list(), [])
  assert.ok(!(await catalog.secrets()).some(({ name }) => name === 'mcp/linear/authorization'))
})

test('a file that its client wrote between two servers of one import is put back entry by entry, and its change stays', async (t) => {
  const { offers, catalog, journals, file } = await house(t)
  const path = file('.cursor/mcp.json')
  const [github, plain] = [...(await offers('github')), ...(await offers('plain'))]
  let first = true
  const visible = async () => {
    if (!first) await writeFile(path, (await readFile(path, 'utf8')).replace('// mine', '// mine, changed'))
    first = false
    return catalog.visible()
  }
  await bringAlong([github!, plain!], { catalog: { ...catalog, visible }, journals, way: {}, server: 'gw:7443' })
  const done = await undo((await journals.list())[0]!, journals)
  assert.equal(done.find((one) => one.file === path)?.state, 'merged')
  const text = await readFile(path, 'utf8')
  assert.match(text, /\/\/ mine, changed/)
  assert.match(text, new RegExp(SECRETS[0]!))
})

test('rule 5: with the way back every copy that holds a secret goes, and no other; not while an import is under way', async (t) => {
  const { bring, journals, file } = await house(t)
  await bring(1_000_000, 'plain')
  const path = file('.cursor/mcp.json')
  const [secret, clean] = ['20261123T100000Z', '20261123T110000Z'].map((at) => `${path}.before-chaperone-${at}`) as [string, string]
  await writeFile(secret, JSON.stringify({ mcpServers: { x: { command: 'x', env: { API_KEY: 'abcdef' } } } }))
  await writeFile(clean, JSON.stringify({ mcpServers: { x: { command: 'x' } } }))
  const [journal] = await journals.list()
  await assert.rejects(forget({ ...journal!, state: 'begun' }, journals), { code: 'conflict', fix: /--undo/ })
  assert.equal(existsSync(secret), true)
  assert.deepEqual(await forget(journal!, journals), [secret])
  assert.deepEqual([existsSync(secret), existsSync(clean)], [false, true])
  assert.deepEqual(await journals.list(), [])
})

test('what a file names where an address should stand is no fault of whoever looks at it', () => {
  assert.deepEqual(secretsIn({ url: 'no address' }), [])
  assert.deepEqual(
    secretsIn({ url: 'https://a-name-that-is-a-token-0123@x.example/mcp' }).map(({ where }) => where),
    ['url'],
  )
  assert.deepEqual(secretsIn({ url: 'https://boris@x.example/mcp' }), [])
})

test('a file that two names lead to is looked at once, and one that is not there is none', async (t) => {
  const { place, file } = await house(t)
  const before = await findServers(place, [])
  assert.equal(before.files, 4)
  await mkdir(file('.codeium'))
  await symlink(file('.cursor/mcp.json'), file('.codeium/mcp_config.json'))
  const after = await findServers(place, [])
  assert.deepEqual([after.files, after.servers.length], [before.files, before.servers.length])
})

test('what is no record of an import is said to be none, and nothing is undone by it', async (t) => {
  const { journals, bring } = await house(t)
  await bring(1, 'plain')
  for (const text of ['{', '{}', '{"v":1}', '{"v":2,"files":[]}']) {
    await writeFile(join(journals.folder, 'odd.json'), text)
    await assert.rejects(journals.list(), { code: 'invalid_document', message: /odd\.json is no record of an import/ }, text)
  }
})
