import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { VerifyReport } from '../audit/verify.ts'
import { newId } from '../ids.ts'
import type { AuditDetail, AuditPage } from './audit-contract.ts'
import { openHouse } from './house.fixture.ts'

const USER = 'kind: user\nname: eve\nspec: {}\n'

test('the record of an apply is found by who, what and when, shown whole, and verifies; each look is a record too', async (t) => {
  const { ask, signIn, clock, parts } = await openHouse(t, { record: 'real' })
  const dana = await signIn('dana')
  assert.equal((await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text: USER }] })).status, 200)
  const search = async (query: string) => (await ask<AuditPage>(dana, 'GET', `/v1/audit?${query}`)).value.records

  const [applied, ...others] = await search('type=documents.applied')
  assert.equal(others.length, 0)
  assert.deepEqual([applied?.actor, applied?.session, applied?.outcome], ['dana', dana.id, undefined])
  const { value: detail } = await ask<AuditDetail>(dana, 'GET', `/v1/audit/records/${applied?.id}`)
  assert.match(detail.bodies.find((body) => body.name === 'diff')?.text ?? '', /^create user\/eve/)
  assert.match(detail.leafHash, /^[0-9a-f]{64}$/)

  const [intent] = await search('actor=dana&resource=chaperone&type=action.intent&text=apply+1+file')
  assert.deepEqual(
    [intent?.resource, intent?.verdict, intent?.rule, intent?.outcome],
    ['chaperone/test.internal', 'allow', 'role admin, allow rule 1', 'ok'],
  )
  assert.deepEqual(await search(`since=${clock.now() + 1}`), [])
  assert.ok((await search('type=audit.read')).length >= 4)

  const { value: checkpoint } = await ask<{ size: number; note: string }>(dana, 'POST', '/v1/audit/checkpoint', {})
  const { value: report } = await ask<VerifyReport>(dana, 'POST', '/v1/audit/verify', { checkpoint: checkpoint.note })
  assert.deepEqual([report.ok, report.problems], [true, []])
  await parts.store.write((trx) =>
    trx
      .updateTable('audit_leaves')
      .set({ leaf: Buffer.from('{}') })
      .where('id', '=', applied!.id)
      .execute(),
  )
  assert.equal((await ask<VerifyReport>(dana, 'POST', '/v1/audit/verify', {})).value.ok, false)
})

test('pages follow each other without a gap', async (t) => {
  const { ask, signIn, parts } = await openHouse(t, { record: 'real' })
  const dana = await signIn('dana')
  for (let i = 0; i < 25; i++) await parts.audit.append({ type: 'node.stopped', data: { i } })
  const seen: string[] = []
  let before: string | undefined
  do {
    const { value } = await ask<AuditPage>(dana, 'GET', `/v1/audit?type=node.stopped&limit=10${before === undefined ? '' : `&before=${before}`}`)
    seen.push(...value.records.map((row) => row.id))
    before = value.next
  } while (before !== undefined)
  assert.deepEqual([seen.length, new Set(seen).size], [25, 25])
})

test('what happened to a server is found by its resource, although it was no action', async (t) => {
  const { ask, signIn, parts, clock } = await openHouse(t, { record: 'real' })
  const dana = await signIn('dana')
  const resource = { id: newId('res', clock.now()), name: 'files', kind: 'mcp' }
  await parts.audit.append({ type: 'server.started', resource, data: { server: resource, command: 'node' } })
  const { records } = (await ask<AuditPage>(dana, 'GET', `/v1/audit?resource=${resource.id}`)).value
  assert.deepEqual(
    records.map(({ type, resource, action }) => [type, resource, action]),
    [['server.started', 'mcp/files', 'node']],
  )
  assert.equal((await ask<VerifyReport>(dana, 'POST', '/v1/audit/verify', {})).value.ok, true)
})

test('a search that is not understood is refused, not ignored', async (t) => {
  const { ask, signIn } = await openHouse(t)
  const dana = await signIn('dana')
  for (const query of [
    'wer=dana',
    'actor=dana&actor=boris',
    'verdict=maybe',
    'type=nothing',
    'since=yesterday',
    'limit=0',
    'text=',
    'before=x',
    'effect=harm',
    'sqlstate=1',
    'transaction=3',
    'table=',
  ]) {
    assert.equal((await ask(dana, 'GET', `/v1/audit?${query}`)).code, 'usage', query)
  }
  assert.equal((await ask(dana, 'GET', '/v1/audit?actor=nobody')).code, 'not_found')
  assert.equal((await ask(dana, 'GET', '/v1/audit?resource=nothing')).code, 'not_found')
  assert.equal((await ask(dana, 'GET', '/v1/audit/records/rec_nothing')).code, 'not_found')
})

test('without the verb nobody reads the record, not even about himself', async (t) => {
  const { ask, signIn } = await openHouse(t)
  const boris = await signIn('boris')
  for (const path of ['/v1/audit', '/v1/audit?actor=boris', '/v1/audit/records/x', '/v1/audit/tail'])
    assert.equal((await ask(boris, 'GET', path)).code, 'no_rule', path)
})
