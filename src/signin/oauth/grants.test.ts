import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { manualClock } from '../../clock.ts'
import { createIdentity } from '../../identity/directory.ts'
import { openStore } from '../../store/open.ts'
import { openGrants } from './grants.ts'

test('a code that is shown again while its first token is being made takes that token back', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'chaperone-grants-'))
  const clock = manualClock(Date.UTC(2026, 10, 23))
  const store = await openStore({ dataDir: dir }, { clock })
  t.after(async () => {
    await store.close()
    rmSync(dir, { recursive: true })
  })
  const boris = await store.write((trx) => createIdentity(trx, { kind: 'user', name: 'boris', source: 'document', now: clock.now() }))
  const ended: string[] = []
  const sessions = {
    async start() {
      // Here nothing was handed out yet, so there is no session to lock.
      await grants.reused('grant')
      return { id: 'ses_1', expiresAt: clock.now() + 60_000 }
    },
    end: async (id: string) => void ended.push(id),
  }
  const grants = openGrants({
    store,
    clock,
    audit: { append: async () => ({ id: 'rec', seq: 1 }) },
    sessions: sessions as never,
    tokens: { mint: async () => ({ token: 'x', notAfter: clock.now() + 60_000 }) } as never,
    copied: async () => assert.fail('there is no session yet'),
    stopCredential: async () => assert.fail('nothing was given back'),
    places: { web: 'x' },
  })
  await grants.keep('grant', { client: 'c', chain: [{ identity: boris.id }], until: clock.now() + 60_000 })
  await assert.rejects(grants.mint('grant', { audience: 'https://x/mcp' }), { code: 'session_ended' })
  assert.deepEqual(ended, ['ses_1'])
  assert.equal(await grants.find('grant'), undefined)
})
