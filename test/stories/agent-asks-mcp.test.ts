import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LockRow } from '../../src/api/contract.ts'
import type { RequestDetail } from '../../src/api/requests-contract.ts'
import type { Held } from '../../src/client/credential.ts'
import { openLoopback } from '../../src/client/loopback.ts'
import { connect, toolNames } from '../mcp/clients.ts'
import type { Json } from '../mcp/raw-server.ts'
import { byCertificate, keeperOf, legacy, modern, overHttp, shakeHands, throughShim, type Whole, whole } from '../mcp/whole.ts'
import type { Member } from '../parts/house.ts'

interface Test {
  after(work: () => Promise<void>): void
}

const DOCUMENTS = (url: string) => `
{ kind: mcp, name: files, spec: { url: "${url}" } }
---
kind: role
name: dev
spec:
  allow:
    - { mcp: files, tools: ["test_simple_text", "test_embedded_resource"] }
  ask:
    - { mcp: files, tools: ["test_simple_text"], approvers: { role: dba } }
  request:
    - { role: images, max: 30m, reason: required, approvers: { role: dba } }
---
kind: role
name: images
spec:
  allow:
    - { mcp: files, tools: ["test_image_content"] }
---
{ kind: role, name: dba, spec: {} }
---
{ kind: role, name: plain, spec: { allow: [{ mcp: files, tools: any }] } }
---
{ kind: user, name: boris, spec: { roles: [dev, dba] } }
---
{ kind: user, name: erik, spec: { roles: [dba] } }
---
{ kind: agent, name: report-bot, spec: { owner: boris, roles: [dev] } }
---
{ kind: agent, name: plain-bot, spec: { owner: boris, roles: [plain] } }
`

async function story(t: Test) {
  const all = await whole(t, DOCUMENTS)
  const erik = await all.home.enrol('erik')
  const boris = await all.home.enrol('boris')
  const bot = await all.credential('report-bot')
  return { ...all, erik, boris, bot, door: byCertificate(all.home.server.addresses.data, bot) }
}

/** What waits, once it is there. */
async function waiting({ home }: Pick<Whole, 'home'>, count = 1): Promise<string> {
  for (;;) {
    const rows = await home.server.parts.store.db.selectFrom('requests').select('id').where('state', '=', 'pending').orderBy('id').execute()
    if (rows.length >= count) return rows[count - 1]!.id
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** Whoever gave a code in the last five minutes is not asked for another. */
const fresh = new WeakSet<Member>()

/** A person decides: signed in, having seen it, with a code of the authenticator app. */
async function decide(who: Member, id: string, verdict: 'approve' | 'deny', reason?: string): Promise<RequestDetail> {
  const { api, code } = who
  const shown = await api.call<RequestDetail>('GET', `/v1/requests/${id}`)
  if (!fresh.has(who)) await api.call('POST', '/v1/factor', { code: code() })
  fresh.add(who)
  await api.call('POST', `/v1/requests/${id}/decide`, { verdict, seen: shown.seen, ...(reason === undefined ? {} : { reason }) })
  return shown
}

const SIMPLE = { name: 'test_simple_text', arguments: { to: 'prod' } }
const resultOf = (text: string) =>
  JSON.parse(
    text
      .split('\n')
      .findLast((line) => line.includes('"result"'))!
      .replace(/^data: /, ''),
  ).result

test('rule 12: an agent’s call is shown to an approver as it will run, and runs once after the yes of somebody else (2026-07-28, R43, R44)', async (t) => {
  const all = await story(t)
  const { door, erik, boris, reached } = all
  const first = resultOf((await door('/mcp/files', modern('tools/call', SIMPLE))).text)
  assert.equal(first.resultType, 'input_required')
  const id = await waiting(all)
  assert.match(first._meta['dev.chaperone/parked'].url, new RegExp(`^https://.*/requests/${id}$`))
  await assert.rejects(decide(boris, id, 'approve'), { code: 'approval_refused' }, 'nobody approves for his own agent, whatever his roles')
  const sent = door('/mcp/files', modern('tools/call', { ...SIMPLE, requestState: first.requestState }, 2))
  const shown = await decide(erik, id, 'approve')
  assert.match(JSON.stringify(shown), /\\"to\\": \\"prod\\"/)
  assert.match(resultOf((await sent).text).content[0].text, /simple text/)
  assert.equal(reached('"test_simple_text"'), 1)
  const again = resultOf((await door('/mcp/files', modern('tools/call', { ...SIMPLE, requestState: first.requestState }, 3))).text)
  assert.equal(again.resultType, 'input_required', 'a second time is a second question')
  assert.equal(reached('"test_simple_text"'), 1)
  const intent = all.records.find(({ type, request }) => type === 'action.intent' && request === id)
  assert.equal(intent?.decision?.verdict, 'ask')
})

test('rule 12: in the era of sessions the call is held, and a no comes back with its reason', async (t) => {
  const all = await story(t)
  const { door, erik, reached } = all
  const session = await shakeHands(door, '/mcp/files')
  const call = () => door('/mcp/files', { headers: session, body: legacy('tools/call', { ...SIMPLE, _meta: { progressToken: 'p' } }) })
  const held = call()
  const id = await waiting(all)
  await decide(erik, id, 'approve')
  const { text } = await held
  assert.match(text, new RegExp(`notifications/progress.*requests/${id}`))
  assert.match(resultOf(text).content[0].text, /simple text/)
  const second = call()
  await decide(erik, await waiting(all), 'deny', 'once is enough')
  const { isError, content } = resultOf((await second).text)
  assert.equal(isError, true)
  assert.match(content[0].text, /once is enough/)
  assert.equal(reached('"test_simple_text"'), 1)
})

test('rule 6: a lock refuses at once what waits for a human, in both eras', async (t) => {
  const all = await story(t)
  const { door, home, reached } = all
  const first = resultOf((await door('/mcp/files', modern('tools/call', SIMPLE))).text)
  await waiting(all)
  await home.dana.api.call('POST', '/v1/factor', { code: home.dana.code() })
  for (const [kind, target] of [
    ['tool', 'files/test_simple_text'],
    ['resource', 'mcp/files'],
    ['role', 'dev'],
    ['everything', '*'],
  ] as const) {
    const asked = () => all.records.filter(({ type }) => type === 'action.asked').length
    const before = asked()
    const session = await shakeHands(door, '/mcp/files')
    const held = [
      door('/mcp/files', { headers: session, body: legacy('tools/call', SIMPLE) }),
      door('/mcp/files', modern('tools/call', { ...SIMPLE, requestState: first.requestState }, 2)),
    ]
    while (asked() < before + 2) await new Promise((done) => setImmediate(done))
    const lock = await home.dana.api.call<LockRow>('POST', '/v1/locks', { kind, target, reason: 'incident 7' })
    for (const answer of held) {
      const { text } = await answer
      assert.match(text, /incident 7/, kind)
      assert.doesNotMatch(text, /To ask for it/, 'no approver lifts a lock')
    }
    assert.equal(asked(), before + 2, 'looking again asks nobody')
    await home.dana.api.call('DELETE', `/v1/locks/${lock.id}`)
  }
  assert.equal(reached('"test_simple_text"'), 0)
})

test('desktop clients wait through the shim, and a server of many through one endpoint', async (t) => {
  const all = await story(t)
  const { bot, door, erik } = all
  const ways: Record<string, () => Promise<string>> = {
    'shim, legacy': () => throughShim(bot, 'files', 'legacy')(SIMPLE.name),
    'all servers, legacy': () => overHttp(door, '/mcp', 'legacy', 'files__')(SIMPLE.name),
    'shim to all servers, legacy': () => throughShim(bot, undefined, 'legacy', 'files__')(SIMPLE.name),
  }
  for (const [way, send] of Object.entries(ways)) {
    const held = send()
    await decide(erik, await waiting(all), 'approve')
    assert.match(await held, /simple text/, way)
  }
  assert.match(await throughShim(bot, 'files', 'modern')(SIMPLE.name), /input_required/)
})

async function clientOf(t: Test, held: Held, era: 'legacy' | 'modern', server: string | undefined) {
  const loopback = await openLoopback({ server, keeper: keeperOf(held) })
  t.after(() => loopback.close())
  return connect(t, era, { url: loopback.url })
}

for (const era of ['legacy', 'modern'] as const)
  test(`an agent asks for itself at the server chaperone (${era})`, async (t) => {
    const all = await story(t)
    const { bot, door, erik } = all
    // The client of the SDK holds each result against its output schema.
    const own = await clientOf(t, bot, era, 'chaperone')
    const ask = async (name: string, args: Record<string, unknown> = {}): Promise<Json> => {
      const { structuredContent, content, isError } = await own.callTool({ name, arguments: args })
      return { ...(structuredContent as Json), text: (content as { text: string }[])[0]!.text, isError }
    }
    assert.deepEqual(await toolNames(own), ['whoami', 'what_can_i_do', 'request_access', 'request_status', 'withdraw'])
    assert.equal((await ask('whoami')).name, 'report-bot')
    // What a server offers is known once somebody has listed it.
    await overHttp(door, '/mcp/files', 'modern')('test_embedded_resource')
    const may = await ask('what_can_i_do')
    assert.deepEqual(may.servers, [{ name: 'files', allowed: ['test_embedded_resource'], asks: ['test_simple_text'] }])
    assert.deepEqual(may.may_request, [{ role: 'images', for_at_most: '30m', reason: 'required', resources: ['mcp/files'] }])

    const image = () => overHttp(door, '/mcp/files', 'modern')('test_image_content')
    const refused = resultOf(await image())
    assert.match(refused.content[0].text, /role images.*request_access/)
    const { request, how } = refused._meta['dev.chaperone/refusal']
    assert.deepEqual([request, how], [[{ role: 'images', max: '30m', reason: 'required' }], { server: 'chaperone', tool: 'request_access' }])

    assert.match((await ask('request_access', { role: 'dba', reason: 'please' })).text, /no such role to ask for/i)
    assert.match((await ask('request_access', { role: 'images' })).text, /reason/)
    const made = await ask('request_access', { role: 'images', resource: 'mcp/files', for: '10m', reason: 'a chart for the report' })
    assert.equal(made.state, 'pending')
    const status = ask('request_status', { id: made.id, wait: 20 })
    await decide(erik, made.id, 'approve')
    assert.equal((await status).requests[0].state, 'approved')
    assert.match(await image(), /image\/png/, 'in the live session, without reconnecting')
    assert.deepEqual(
      (await ask('whoami')).granted.map((grant: { role: string }) => grant.role),
      ['images'],
    )
    assert.equal((await ask('withdraw', { id: made.id })).state, 'withdrawn')
    assert.match(await image(), /no_rule/, 'given back')
    assert.match((await ask('withdraw', { id: 'req_01ARZ3NDEKTSV4RRFFQ69G5FAV' })).text, /no such request/i)

    const everything = await clientOf(t, bot, era, undefined)
    assert.ok((await toolNames(everything)).includes('chaperone__request_access'))
    const called = all.records.filter(({ type }) => type === 'chaperone.called').map(({ data }) => data?.tool)
    assert.ok(['whoami', 'what_can_i_do', 'request_access', 'request_status', 'withdraw'].every((tool) => called.includes(tool)))
  })

test('rule 8: who may ask for nothing finds no server chaperone, and no document can take its name', async (t) => {
  const all = await story(t)
  const door = byCertificate(all.home.server.addresses.data, await all.credential('plain-bot'))
  const answer = async (name: string) => {
    const { status, text } = await door(`/mcp/${name}`, modern('tools/list'))
    return { status, text: text.replaceAll(name, 'X') }
  }
  const missing = await answer('chaperone')
  assert.equal(missing.status, 404)
  assert.deepEqual(missing, await answer('nothing-here'))
  await assert.rejects(all.home.apply('{ kind: mcp, name: chaperone, spec: { url: "https://files.example/mcp" } }'), /own MCP server/)
})
