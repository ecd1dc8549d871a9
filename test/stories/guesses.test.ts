import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ask, house } from '../parts/house.ts'

/** What one address may try at one door: at most this many at once, and one a second. */
const BURST = 60
const TOKEN = 'the-token-of-the-directory-0123456789'
const DIRECTORY = `
kind: directory
name: company
spec:
  name: { claim: email, domain: example.com }
  groups: scim
  scim: { token: { secret: scim } }
`

test('rule 11: each door has its own tries for an address, and who used up those of one is not shut out of another', async (t) => {
  const home = await house(t)
  const { data, web } = home.server.addresses
  await home.dana.api.call('PUT', '/v1/secrets/scim', { value: TOKEN })
  await home.apply(DIRECTORY)
  const office = { localAddress: '127.0.0.240' }
  const at = home.server.parts.places.web
  const form = { host: at, origin: `https://${at}`, 'content-type': 'application/x-www-form-urlencoded' }
  const json = { 'content-type': 'application/json' }
  const statusOf = (answered: Promise<{ readonly status: number }>) => answered.then(({ status }) => status)
  const api = (path: string, body: unknown, from = office) =>
    statusOf(ask(data, path, { ...from, method: 'POST', headers: json, body: JSON.stringify(body) }))
  const scim = (token: string) => statusOf(ask(web, '/scim/v2/company/Users', { ...office, headers: { authorization: `Bearer ${token}` } }))
  const doors: Readonly<Record<string, () => Promise<number>>> = {
    device: () => api('/v1/device/begin', { csr: 'wrong', host: 'here' }),
    poll: () => api('/v1/device/poll', { device: 'x'.repeat(43) }),
    join: () => api('/v1/join', { token: 'wrong' }),
    enrol: () => api('/v1/enrol/begin', { secret: 'wrong' }),
    pages: () => statusOf(ask(web, '/signin', { ...office, method: 'POST', headers: form, body: 'name=dana&code=123456' })),
    scim: () => scim('guessed'),
  }
  for (const [door, knock] of Object.entries(doors)) {
    const began = performance.now()
    assert.notEqual(await knock(), 429, `${door} is open, whatever was tried at the others`)
    let answered = 1
    for (let i = 1; i < BURST + 20; i++) if ((await knock()) !== 429) answered++
    // Some more may pass: one a second comes back while it tries.
    assert.ok(answered >= BURST && answered <= BURST + Math.ceil((performance.now() - began) / 1000), `${door}: ${answered}`)
  }
  assert.notEqual(await api('/v1/join', {}, { localAddress: '127.0.0.241' }), 429, 'another address')
  // Its directory is known by its token: it may write thousands of people, also from where somebody guesses.
  for (let i = 0; i < BURST + 20; i++) assert.equal(await scim(TOKEN), 200)
})
