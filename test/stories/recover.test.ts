import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import type { LockRow } from '../../src/api/contract.ts'
import { openApi } from '../../src/client/api.ts'
import { beginEnrolment } from '../../src/client/sign-in.ts'
import { startServer } from '../../src/server/start.ts'
import { fromBase32, stepAt, totpCode } from '../../src/signin/totp.ts'
import { house } from '../parts/house.ts'
import { chaperone } from '../parts/process.ts'

test('an administrator whom the one that is left has locked is let in again by who has the machine, and that is on record', async (t) => {
  const { server, dir, apply, enrol } = await house(t)
  const dataDir = join(dir, 'data')
  const recover = (...args: readonly string[]) => chaperone(['recover', ...args, '--data-dir', dataDir, '--json'])
  await apply('kind: user\nname: erik\nspec: { roles: [admin] }\n---\nkind: user\nname: boris\nspec: {}\n')
  const erik = await enrol('erik')
  await erik.api.call('POST', '/v1/locks', { kind: 'identity', target: 'dana', reason: 'mine alone' })

  const running = await recover('dana')
  assert.equal(running.code === 0, false)
  assert.match(running.err, /Another Chaperone runs on/)
  await server.stop('test')

  assert.match((await recover('boris')).err, /boris is no administrator[\s\S]*dana, erik/)
  assert.match((await recover('nobody')).err, /There is no person nobody/)
  const before = await recover('dana')
  assert.match(before.err, /would not let dana in: lock lck_\w+ \(mine alone\)\. Nothing was changed/)
  const { code, out } = await recover('dana', '--lift')
  assert.equal(code, 0)
  const made = JSON.parse(out) as { line: string; lifted: { reason: string }[]; enabled: boolean }
  assert.deepEqual([made.lifted.map(({ reason }) => reason), made.enabled], [['mine alone'], false])
  const nowhere = await chaperone(['recover', 'dana', '--data-dir', join(dir, 'other')])
  assert.match(nowhere.err, /There is no store in/)

  const again = await startServer({
    ...{ dataDir, listen: '127.0.0.1:0', webListen: '127.0.0.1:0', postgresListen: '127.0.0.1:0', logLevel: 'silent' },
  })
  t.after(() => again.stop('test over'))
  // It leads to the port that the server is told to have, and this one takes any that is free.
  const enrolment = await beginEnrolment(made.line.replace(/\/\/[^/]+\//, `//${again.addresses.data}/`))
  const step = stepAt(Date.now())
  const profile = await enrolment.finish(totpCode(fromBase32(enrolment.offer.totp.secret)!, step)).finally(() => enrolment.close())
  const api = openApi({ address: profile.address, authorities: profile.bundles.server, identity: profile })
  t.after(async () => api.close())
  assert.deepEqual((await api.call<{ locks: LockRow[] }>('GET', '/v1/locks')).locks, [])
  const { records } = await api.call<{ records: { id: string }[] }>('GET', '/v1/audit?type=administrator.recovered')
  assert.equal(records.length, 1, 'what was refused changed nothing')
  assert.match(JSON.stringify(await api.call('GET', `/v1/audit/records/${records[0]!.id}`)), /mine alone/)
})
