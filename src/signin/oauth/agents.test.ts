import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { manualClock } from '../../clock.ts'
import { clientOf } from '../../identity/delegation/client.fixture.ts'
import { makeDelegation } from '../../identity/delegation/delegations.ts'
import { createIdentity } from '../../identity/directory.ts'
import { openStore } from '../../store/open.ts'
import { usualAgent } from './agents.ts'

test('who calls itself like another client, or like a program of the person, is not taken for it', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'chaperone-agents-'))
  const clock = manualClock(Date.UTC(2026, 10, 23))
  const store = await openStore({ dataDir: dir }, { clock })
  t.after(async () => {
    await store.close()
    rmSync(dir, { recursive: true })
  })
  const now = clock.now()
  const boris = await store.write((trx) => createIdentity(trx, { kind: 'user', name: 'boris', source: 'document', now }))
  const known = { id: 'https://claude.ai/client', name: 'Claude Code' }
  const other = { id: 'registered-17', name: 'Claude Code' }
  assert.equal(await usualAgent(store, boris, known), 'boris/claude-code')

  // A program that came by `mcp connect` got roles for a while; nobody else is to have them by its name.
  const { agent } = await clientOf(store, boris, 'claude-code', now)
  assert.match(await usualAgent(store, boris, other), /^boris\/claude-code-[0-9a-f]{6}$/)

  const consent = { fromId: boris.id, toId: agent.id, how: 'consent', client: known.id, now } as const
  await store.write((trx) => makeDelegation(trx, consent))
  assert.equal(await usualAgent(store, boris, known), 'boris/claude-code', 'he chose that agent for this client')
  assert.match(await usualAgent(store, boris, other), /^boris\/claude-code-[0-9a-f]{6}$/)
})
