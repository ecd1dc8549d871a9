import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { LockRow } from '../../src/api/contract.ts'
import type { RequestDetail } from '../../src/api/requests-contract.ts'
import { house } from '../parts/house.ts'
import { chaperone } from '../parts/process.ts'
import { homeOf, running } from '../parts/terminal.ts'

const PEOPLE = `kind: user
name: erik
spec: { roles: [admin] }
---
kind: user
name: boris
spec: {}
`
const RULE = `kind: guardrail
name: two-administrators
spec:
  ask:
    - chaperone: any
      verbs: [apply, lock.lift, issue, ca, pins, secrets, identities]
      approvers: { role: admin }
`
const ROLE = 'kind: role\nname: writer\nspec: { allow: [{ mcp: any, tools: ["write_*"] }] }\n'

test('with two administrators each change waits for the other one, who reads it; one alone gets nothing done', async (t) => {
  const home = await house(t)
  await home.apply(PEOPLE)
  const erik = await home.enrol('erik')
  await home.apply(RULE)
  const env = await homeOf(home, 'dana', home.dana)
  const dana = (...args: string[]) => chaperone(args, { env })
  const role = join(home.dir, 'role.yaml')
  await writeFile(role, ROLE)
  const idIn = (text: string) => /req_[0-9a-z]{26}/.exec(text)?.[0] ?? ''
  const decide = async (id: string, verdict: 'approve' | 'deny') => {
    const shown = await erik.api.call<RequestDetail>('GET', `/v1/requests/${id}`)
    await erik.api.call('POST', `/v1/requests/${id}/decide`, { verdict, seen: shown.seen })
    return shown
  }

  const refused = await dana('apply', '-f', role)
  assert.equal(refused.code, 3)
  assert.match(refused.err, /a holder of role admin, at https:.*chaperone requests approve req_.*the very same once more/s)
  assert.equal((await dana('diff', '-f', role)).code, 1, 'what would change is asked of nobody')

  const interrupted = running(t, ['apply', '-f', role, '--wait'], { env })
  await interrupted.said('waiting for the decision')
  interrupted.child.kill('SIGINT')
  assert.equal(await interrupted.ended, 3, interrupted.text())
  assert.match(interrupted.text(), /Nobody has decided yet[\s\S]*The question stays/)
  assert.doesNotMatch(interrupted.text(), /server is gone/)
  const waits = running(t, ['apply', '-f', role, '--wait'], { env })
  await waits.said('waiting for the decision')
  assert.equal(idIn(waits.text()), idIn(refused.err), 'the same question')
  const shown = await decide(idIn(refused.err), 'approve')
  assert.equal(shown.by, 'dana')
  assert.match(shown.shown.find(({ title }) => title === 'create role/writer')?.text ?? '', /^\+ {8}- write_\*$/m)
  assert.equal(await waits.ended, 0, waits.text())
  assert.match(waits.text(), /created +role writer/)
  assert.equal((await dana('apply', '-f', role)).code, 0, 'a second apply changes nothing and asks nobody')

  const locked = await home.dana.api.call<LockRow>('POST', '/v1/locks', { kind: 'identity', target: 'boris', reason: 'odd' })
  const alone = [
    ['delete', 'guardrail', 'two-administrators'],
    ['lock', 'lift', locked.id],
    ['ca', 'rotate', 'identity'],
    ['invite', 'erik'],
    ['delete', 'user', 'boris'],
  ]
  for (const args of alone) {
    const { code, err } = await dana(...args)
    assert.deepEqual([code, idIn(err) !== ''], [3, true], `${args.join(' ')}: ${err}`)
    await assert.rejects(home.dana.api.call('POST', `/v1/requests/${idIn(err)}/decide`, { verdict: 'approve', seen: '0'.repeat(64) }), {
      code: 'approval_refused',
    })
  }
  const lift = idIn((await dana('lock', 'lift', locked.id)).err)
  assert.match((await decide(lift, 'deny')).shown.at(-1)!.text, /boris: odd/)
  assert.match((await dana('lock', 'lift', locked.id)).err, /asked for and refused/)

  const { records } = await home.dana.api.call<{ records: { decision?: { verdict: string }; request?: string }[] }>(
    'GET',
    '/v1/audit?type=action.intent&verdict=ask',
  )
  assert.deepEqual(
    records.map(({ request }) => request),
    [idIn(refused.err)],
    'the one that was said yes to ran once',
  )
})
