import assert from 'node:assert/strict'
import { test } from 'node:test'
import { begin, CALLBACK, CLAUDE, type Rig, rig } from './rig.ts'

const call = (r: Rig, token: string, tool: string) =>
  r.mcp(token).then((hello) => {
    const session = String(hello.headers['mcp-session-id'])
    return r.send(token, session, { jsonrpc: '2.0', id: 2, method: 'tools/call', params: { name: tool, arguments: {} } })
  })

async function signIn(r: Rig, fields: Record<string, string>, more: Record<string, string> = {}) {
  const flow = begin({ resource: r.resource(), ...more })
  const browser = await r.browser('boris')
  const page = await browser.open(flow)
  // He chooses, looks at what it gets then, and agrees to that.
  const looked = await browser.answer(page, { verdict: 'look', ...fields })
  const back = await browser.finish({ path: page.path, page: looked }, fields)
  const tokens = await r.token({
    grant_type: 'authorization_code',
    client_id: CLAUDE,
    redirect_uri: CALLBACK,
    code: back.searchParams.get('code')!,
    code_verifier: flow.verifier,
  })
  return { tokens, looked }
}

test('rule 7: what the person left out is left out, by a profile, by his choice and by the scope that was asked for', async (t) => {
  const r = await rig(t)
  for (const [fields, more] of [
    [{ profile: 'reading' }, {}],
    [{ read: 'only' }, {}],
    [{}, { scope: 'mcp:read' }],
  ] as const) {
    const { tokens, looked } = await signIn(r, fields, more)
    assert.equal(tokens.status, 200, JSON.stringify(tokens))
    assert.match(looked.text, /change|read/i)
    const refused = await call(r, tokens.access_token, 'test_simple_text')
    assert.match(refused.text, /delegation/i, refused.text)
  }
  const { tokens } = await signIn(r, {})
  assert.match((await call(r, tokens.access_token, 'test_simple_text')).text, /simple text/i)
})

test('a client registers itself where that is switched on, and is asked about like any other', async (t) => {
  const r = await rig(t, { oauthRegistration: true })
  const metadata = JSON.parse((await r.get('/.well-known/oauth-authorization-server')).text) as { registration_endpoint: string }
  const register = (body: unknown) => r.send(undefined, undefined, body, new URL(metadata.registration_endpoint).pathname)
  const made = await register({
    client_name: 'Registered',
    redirect_uris: ['http://localhost:7777/oauth/callback'],
    application_type: 'native',
    token_endpoint_auth_method: 'none',
  })
  assert.equal(made.status, 201, made.text)
  const { client_id, client_secret } = JSON.parse(made.text) as { client_id: string; client_secret?: string }
  assert.equal(client_secret, undefined)
  const flow = begin({ resource: r.resource(), client_id, redirect_uri: 'http://localhost:7777/oauth/callback' })
  const back = await (await r.browser('boris')).agree(flow)
  assert.ok(back.searchParams.get('code'))
  for (const redirect_uris of [['javascript:alert(1)'], ['http://evil.example.com/x'], ['app:/x'], ['https://a.example.com/x#y'], []])
    assert.equal((await register({ client_name: 'Bad', redirect_uris, token_endpoint_auth_method: 'none' })).status, 400, String(redirect_uris))
  assert.ok(r.records.some(({ type }) => type === 'client.registered'))
})

test('before he was asked, nobody is sent to the site of a client that made itself known; afterwards he is', async (t) => {
  const r = await rig(t, { oauthRegistration: true })
  const redirect_uri = 'https://anywhere.example.com/back'
  const made = await r.send(undefined, undefined, { client_name: 'Anywhere', redirect_uris: [redirect_uri] }, '/oauth/register')
  const { client_id } = JSON.parse(made.text) as { client_id: string }
  const browser = await r.browser('boris')
  const asked = { resource: r.resource(), client_id, redirect_uri }
  for (const more of [{ prompt: 'none' }, { resource: 'https://elsewhere.example.com/' }, { code_challenge: 'x' }, { response_type: 'token' }]) {
    const sent = await browser.get(`/oauth/authorize?${begin({ ...asked, ...more }).query}`)
    assert.deepEqual([sent.status, sent.headers.location], [400, undefined], JSON.stringify(more))
    assert.match(sent.text, /^This sign-in cannot go on: /)
  }
  // One that an administrator has written down is told, and so is a program on his computer.
  const told = await browser.get(
    `/oauth/authorize?${begin({ ...asked, client_id: 'console', redirect_uri: 'https://console.example.com/back', prompt: 'none' }).query}`,
  )
  assert.match(told.headers.location ?? '', /^https:\/\/console\.example\.com\/back\?error=consent_required/)
  const no = await browser.answer(await browser.open(begin(asked)), { verdict: 'refuse' })
  const back = await browser.get(/url=([^"]+)"/.exec(no.text)![1]!)
  assert.match(back.headers.location ?? '', /^https:\/\/anywhere\.example\.com\/back\?error=access_denied/)
  assert.ok((await browser.agree(begin(asked))).searchParams.get('code'))
})

test('who begins too many sign-ins from one address is told to wait', async (t) => {
  const r = await rig(t)
  const began = performance.now()
  const statuses = await Promise.all(
    Array.from({ length: 120 }, () => r.from('127.0.0.250', `/oauth/authorize?${begin({ resource: r.resource() }).query}`)),
  )
  assert.ok(statuses.some(({ status }) => status === 429))
  // One a second comes back while it asks.
  const back = Math.ceil((performance.now() - began) / 1000)
  assert.ok(statuses.filter(({ status }) => status === 303).length <= 60 + back)
})

test('rule 11: of one network a few dozen clients register, whatever the other networks do', async (t) => {
  const r = await rig(t, { oauthRegistration: true })
  const register = (localAddress: string) =>
    r.from(localAddress, '/oauth/register', { client_name: 'X', redirect_uris: ['http://localhost/cb'], token_endpoint_auth_method: 'none' })
  const statuses: number[] = []
  for (let i = 0; i < 32; i++) statuses.push((await register('127.0.0.251')).status)
  assert.equal(statuses.filter((status) => status === 201).length, 30)
  assert.equal(statuses.at(-1), 429)
  assert.equal((await register('127.0.0.252')).status, 201)
})

test('what was agreed to holds for the host that the answer went to: another one, or this computer, is a first time', async (t) => {
  const client_id = 'https://app.example.com/client'
  const places = ['https://app.example.com/back', 'https://other.example.com/back', 'http://localhost/back', 'http://127.0.0.1/back']
  const r = await rig(
    t,
    {},
    `\n---\nkind: oauth-client\nname: both\nspec: ${JSON.stringify({ client_id, client_name: 'Both', redirect_uris: places })}\n`,
  )
  // Each time another browser, in which no factor was given: what is remembered needs none, what is new needs one.
  const agreedAt = async (redirect_uri: string) => {
    const browser = await r.browser('boris')
    const page = await browser.open(begin({ resource: r.resource(), client_id, redirect_uri }))
    const first = page.page.text.includes('id="consent-code"')
    if (first) assert.equal((await browser.answer(page, { verdict: 'agree' })).status, 403, redirect_uri)
    assert.ok((await browser.finish(page)).searchParams.get('code'), redirect_uri)
    return first ? 'first' : 'again'
  }
  assert.equal(await agreedAt('https://app.example.com/back'), 'first')
  assert.equal(await agreedAt('https://app.example.com/back'), 'again')
  assert.equal(await agreedAt('https://other.example.com/back'), 'first')
  assert.equal(await agreedAt('http://localhost:4000/back'), 'first')
  // A port on this computer says nothing, and neither does by which of its names it is called.
  assert.equal(await agreedAt('http://localhost:5000/back'), 'again')
  assert.equal(await agreedAt('http://127.0.0.1:6000/back'), 'again')
  const words = r.records.filter(({ type }) => type === 'delegation.made').map(({ data }) => String((data as { words?: string }).words))
  assert.deepEqual(
    words.map((text) => /which answers at ([^)]*)\)/.exec(text)?.[1]),
    ['app.example.com', 'other.example.com', 'localhost'],
  )
})
