import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { Draft } from '../../audit/record.ts'
import { manualClock } from '../../clock.ts'
import { openStore } from '../../store/open.ts'
import type { Store } from '../../store/store.ts'
import { createIdentity, findIdentity, type IdentityRecord, setIdentityState } from '../directory.ts'
import { agentOfClient } from './own-agent.ts'

const clock = manualClock(Date.UTC(2026, 10, 23, 12))
const dir = mkdtempSync(join(tmpdir(), 'chaperone-own-agent-'))
const records: Draft[] = []
const audit = { append: async (draft: Draft) => ({ id: 'rec', seq: records.push(draft) }) }
let store: Store
let boris: IdentityRecord

const make = (ask: Omit<Parameters<typeof createIdentity>[1], 'now' | 'source'>) =>
  store.write((trx) => createIdentity(trx, { ...ask, source: 'document', now: clock.now() }))
const agentOf = (owner: IdentityRecord, client: string) => agentOfClient({ store, audit, clock }, { by: {}, owner, client, why: 'first use' })

before(async () => {
  store = await openStore({ dataDir: dir }, { clock })
  boris = await make({ kind: 'user', name: 'boris' })
})
after(async () => {
  await store.close()
  rmSync(dir, { recursive: true })
})

test('the client of a person is one agent, which inherits his roles, made and recorded on first use', async () => {
  const first = await agentOf(boris, 'claude-code')
  assert.deepEqual([first.name, first.ownerId, first.roles, first.source], ['boris/claude-code', boris.id, 'inherit', 'client'])
  assert.deepEqual(await agentOf(boris, 'claude-code'), first)
  assert.deepEqual(
    records.map(({ type, data }) => [type, data?.op, data?.name]),
    [['identity.changed', 'create', 'boris/claude-code']],
  )
})

test('a disabled client agent stays disabled, an agent has no clients, and a name leads nowhere else', async () => {
  const agent = await agentOf(boris, 'vscode')
  await store.reduce((trx) => setIdentityState(trx, agent.id, 'disabled', clock.now()))
  await assert.rejects(agentOf(boris, 'vscode'), { code: 'identity_disabled' })
  await assert.rejects(agentOf(agent, 'x'), { code: 'usage' })
  await assert.rejects(agentOf({ ...boris, state: 'disabled' }, 'x'), { code: 'identity_disabled' })
  for (const client of ['', '../x', 'A', 'a/b']) await assert.rejects(agentOf(boris, client), { code: 'usage' }, client)
  assert.equal(await findIdentity(store.db, { name: 'boris/x' }), undefined)
})

test('rule 7: a client named like an agent of the person is that agent; of somebody else, it is not', async () => {
  const mine = await make({ kind: 'agent', name: 'boris-bot', ownerId: boris.id })
  const eve = await make({ kind: 'user', name: 'eve' })
  assert.equal((await agentOf(boris, 'boris-bot')).id, mine.id)
  assert.equal((await agentOf(eve, 'boris-bot')).name, 'eve/boris-bot')
})
