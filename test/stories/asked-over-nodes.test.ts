import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Applied, Invitation } from '../../src/api/contract.ts'
import type { RequestDetail } from '../../src/api/requests-contract.ts'
import { type Api, openApi } from '../../src/client/api.ts'
import type { ApiError } from '../../src/client/api-error.ts'
import { enrol } from '../../src/demo/person.ts'
import { startPostgres } from '../../src/demo/postgres.ts'
import { startServer } from '../../src/server/start.ts'
import { chaperone, folder, up } from '../parts/process.ts'

const RULE = `kind: guardrail
name: two-administrators
spec: { ask: [{ chaperone: any, verbs: [apply, lock.lift, issue, ca, pins, secrets, identities], approvers: { role: admin } }] }
`
const ROLE = 'kind: role\nname: writer\nspec: { allow: [{ mcp: any, tools: ["write_*"] }] }\n'

test('a change that is asked at one node is decided at another, and done there once when the first was killed', { timeout: 150_000 }, async (t) => {
  const dir = await folder(t)
  const postgres = await startPostgres({ dir: join(dir, 'store') })
  t.after(() => postgres.stop())
  const one = await up(t, join(dir, 'one'), ['--store', postgres.superuserUrl, '--admin', 'dana'])
  const dana = await enrol('dana', one.invitation!, join(dir, 'dana'))
  const apply = (api: Pick<Api, 'call'>, text: string) => api.call<Applied>('POST', '/v1/apply', { files: [{ path: 'a.yaml', text }] })
  await apply(dana.api, 'kind: user\nname: erik\nspec: { roles: [admin] }\n')
  const two = await startServer({
    ...{ dataDir: join(dir, 'two'), store: postgres.superuserUrl, rootKey: join(dir, 'one.root-key'), logLevel: 'silent' },
    ...{ listen: '127.0.0.1:0', webListen: '127.0.0.1:0', postgresListen: '127.0.0.1:0' },
  })
  t.after(() => two.stop())
  const erik = await enrol('erik', (await dana.api.call<Invitation>('POST', '/v1/invitations', { name: 'erik' })).invitation, join(dir, 'erik'))
  t.after(async () => {
    dana.api.close()
    erik.api.close()
  })
  await apply(dana.api, RULE)
  const atTwo = ({ profile }: typeof dana) => {
    const api = openApi({ address: two.addresses.data, authorities: profile.bundles.server, identity: profile })
    t.after(async () => api.close())
    return api
  }
  const [danaAtTwo, erikAtTwo] = [atTwo(dana), atTwo(erik)]
  const asked = async (api: Pick<Api, 'call'>) => {
    const error = await apply(api, ROLE).then(
      () => assert.fail('it was done'),
      (refusal: ApiError) => refusal,
    )
    assert.equal(error.code, 'approval_required', error.message)
    return error.request!.id
  }
  const id = await asked(dana.api)
  assert.equal(await asked(danaAtTwo), id, 'at the other node it is the same question')
  const { seen } = await erikAtTwo.call<RequestDetail>('GET', `/v1/requests/${id}`)
  await erikAtTwo.call('POST', `/v1/requests/${id}/decide`, { verdict: 'approve', seen })
  await one.kill('SIGKILL')
  const applied = await apply(danaAtTwo, ROLE)
  assert.deepEqual(
    applied.changes.map(({ op, name }) => [op, name]),
    [['create', 'writer']],
  )
  assert.equal((await danaAtTwo.call<RequestDetail>('GET', `/v1/requests/${id}`)).state, 'used')
  await danaAtTwo.call('DELETE', '/v1/documents/role/writer').catch(() => undefined)
  const { records } = await danaAtTwo.call<{ records: unknown[] }>('GET', '/v1/audit?type=action.intent&verdict=ask')
  assert.equal(records.length, 1, 'it ran once')

  // While the other node runs, on a data directory of its own.
  const recovered = await chaperone([
    ...['recover', 'erik', '--store', postgres.superuserUrl, '--data-dir', join(dir, 'three'), '--root-key', join(dir, 'one.root-key')],
    ...['--listen', two.addresses.data],
  ])
  assert.equal(recovered.code, 0, recovered.err)
  const back = await enrol('erik', /chaperone:\/\/[^']+/.exec(recovered.out)![0], join(dir, 'erik-again'))
  t.after(async () => back.api.close())
  assert.equal((await back.api.call<{ name: string }>('GET', '/v1/whoami')).name, 'erik')
})
