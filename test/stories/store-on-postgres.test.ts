import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { AuditRow } from '../../src/api/audit-contract.ts'
import type { LockRow } from '../../src/api/contract.ts'
import { openLogForReading, verifyLog } from '../../src/audit/verify.ts'
import { openApi } from '../../src/client/api.ts'
import { startPostgres } from '../../src/demo/postgres.ts'
import { apply, governed, issued } from '../parts/governed.ts'

/** The same Chaperone over PostgreSQL: `--store postgres://...`. */

test('a whole Chaperone works over PostgreSQL: enrol, apply, issue, lock, verify', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-pg-'))
  t.after(() => rm(dir, { recursive: true, force: true, maxRetries: 10 }))
  const postgres = await startPostgres({ dir })
  t.after(() => postgres.stop())
  const { server, dana } = await governed(t, { store: postgres.superuserUrl })
  await apply(dana, 'kind: user\nname: boris\nspec: {}\n---\nkind: agent\nname: boris-ai\nspec: { owner: boris }\n')
  const held = await issued(dana, 'boris-ai', '5m')
  const api = openApi({ address: dana.profile.address, authorities: dana.profile.bundles.server, identity: held })
  t.after(async () => api.close())
  assert.equal((await api.call<{ name: string }>('GET', '/v1/whoami')).name, 'boris-ai')
  const lock = await dana.api.call<LockRow>('POST', '/v1/locks', { kind: 'identity', target: 'boris', reason: 'left' })
  // How soon is measured by the bench; here it must not hang.
  assert.ok((lock.acknowledgedMs ?? Number.POSITIVE_INFINITY) < 20_000, 'every lease confirmed it, or had run out')
  await assert.rejects(api.call('GET', '/v1/whoami'), 'a locked owner stops his agents')
  const { records } = await dana.api.call<{ records: AuditRow[] }>('GET', '/v1/audit?limit=50')
  assert.ok(records.some((row) => row.type === 'lock.made') && records.some((row) => row.type === 'documents.applied'))
  await server.stop()
  const log = await openLogForReading({ url: postgres.superuserUrl })
  const report = await verifyLog(log)
  await log.close()
  assert.deepEqual(report.problems, [])
  assert.ok(report.records > 10)
})
