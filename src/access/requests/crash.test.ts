import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { sqlitePlace } from '../../audit/fixtures.ts'
import { systemClock } from '../../clock.ts'
import { openStore } from '../../store/open.ts'
import { asking, callOf, openHouse, setClock } from './house.fixture.ts'

const CALLS = 60
const KILLED_AFTER = 15

/** A process with the real record, which runs approved calls as fast as it can and says which permits it got. */
const CHILD = `
  import { generateKeyPairSync } from 'node:crypto'
  import { writeSync } from 'node:fs'
  import { createMasker } from '${new URL('../../audit/mask.ts', import.meta.url)}'
  import { openAudit } from '${new URL('../../audit/writer.ts', import.meta.url)}'
  import { systemClock as clock } from '${new URL('../../clock.ts', import.meta.url)}'
  import { toolVocabulary } from '${new URL('../../policy/vocabulary.fixture.ts', import.meta.url)}'
  import { openStore } from '${new URL('../../store/open.ts', import.meta.url)}'
  import { chaperoneResource, chaperoneVocabulary } from '${new URL('../administration.ts', import.meta.url)}'
  import { makeGuard } from '${new URL('../guard.ts', import.meta.url)}'
  import { keepState } from '${new URL('../state.ts', import.meta.url)}'
  import { asking, callOf } from '${new URL('./house.fixture.ts', import.meta.url)}'
  import { openRequests } from '${new URL('./requests.ts', import.meta.url)}'
  const { dataDir, principal, files, calls } = JSON.parse(process.argv[1])
  const store = await openStore({ dataDir }, { clock })
  const key = { id: 'key_1', ...generateKeyPairSync('ed25519') }
  const keyring = { signer: async () => { throw new Error('none here') } }
  const audit = await openAudit(store, { nodeId: 'nod_1', trustDomain: 'example.org', keyring, clock, checkpointEveryMs: 3_600_000 })
  const state = await keepState(store.db, [chaperoneVocabulary, toolVocabulary], await store.epoch())
  const failed = (error) => console.error(error)
  const requests = openRequests({ store, state, audit, clock, failed, masker: createMasker(), link: (id) => id, chaperone: chaperoneResource('test.internal'), raised: async () => {} })
  const guard = makeGuard({ state, audit, clock, calls: requests.calls, lease: { ensure: async () => {} }, outcomeLost: failed })
  const session = { id: 'ses_1', principal, startedAt: 0, how: 'issue', provenUntil: 0, open: 0, assertLive() {} }
  let next = 0
  await Promise.all(Array.from({ length: 4 }, async () => {
    while (next < calls) {
      const n = next++
      const permit = await guard.admit(session, callOf(files, 'write_file', { n }), asking('write_file', { n }))
      writeSync(1, n + ' ' + permit.id + '\\n')
    }
  }))
`

test('rule 12: after kill -9 no approval was used twice; what had begun is unknown, the rest runs once', async (t) => {
  const place = await sqlitePlace(t)
  const now = Date.now()
  const house = await openHouse(t, place, setClock(now))
  const first = await house.startNode()
  const bot = house.sessionOf('boris', 'bot')
  const dana = house.sessionOf('dana')
  const attempt = (node: typeof first, n: number) => node.guard.admit(bot, callOf(house.files, 'write_file', { n }), asking('write_file', { n }))
  const requests: string[] = []
  for (let n = 0; n < CALLS; n++) {
    const { request } = (await attempt(first, n).catch((error) => error)).parked
    const { seen } = await first.requests.show(dana, request)
    await first.requests.decide(dana, request, { verdict: 'approve', seen, how: 'cli' })
    requests.push(request)
  }
  first.stop()

  const dataDir = 'dataDir' in place ? place.dataDir : ''
  const told = JSON.stringify({ dataDir, principal: bot.principal, files: house.files, calls: CALLS })
  const child = spawn(process.execPath, ['--input-type=module', '-e', CHILD, told], { stdio: ['ignore', 'pipe', 'inherit'] })
  const permits = new Map<number, string>()
  for await (const line of createInterface({ input: child.stdout })) {
    const [n, permit] = line.split(' ')
    permits.set(Number(n), permit!)
    if (permits.size === KILLED_AFTER) child.kill('SIGKILL')
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  assert.ok(permits.size >= KILLED_AFTER && permits.size < CALLS)

  const store = await openStore(place, { clock: systemClock })
  t.after(() => store.close())
  const rows = new Map((await store.db.selectFrom('requests').select(['id', 'state', 'permit']).execute()).map((row) => [row.id, row]))
  const leaves = await store.db.selectFrom('audit_leaves').select('id').where('type', '=', 'action.intent').execute()
  const intents = new Set(leaves.map(({ id }) => id))
  assert.equal(intents.size, leaves.length)
  for (const [n, permit] of permits) assert.deepEqual([rows.get(requests[n]!)?.state, rows.get(requests[n]!)?.permit], ['used', permit])
  const used = [...rows.values()].filter(({ permit }) => permit !== null)
  assert.deepEqual(new Set(used.map(({ permit }) => permit)), intents, 'an intent and the use of its approval are both there, or neither')

  const again = await house.startNode()
  await again.sweep.begin()
  const states = await Promise.all(requests.map(async (id) => (await again.requests.parts.book.find(id))?.state))
  assert.equal(states.filter((state) => state === 'unknown').length, used.length)
  const tries = await Promise.allSettled(requests.flatMap((_, n) => [attempt(again, n), attempt(again, n)]))
  assert.equal(tries.filter(({ status }) => status === 'fulfilled').length, CALLS - used.length, 'once each, and none of those that had begun')
})
