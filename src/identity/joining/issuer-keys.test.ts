import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChaperoneError } from '../../errors.ts'
import { openIssuerKeys } from './issuer-keys.ts'
import { issuerOf } from './joining.fixture.ts'

const ISSUER = 'https://ci.example'

/** An issuer whose answers the test writes, and a clock that it moves. */
function world(issuer = ISSUER) {
  const at = {
    now: 1_000_000,
    asked: [] as string[],
    opened: [] as unknown[],
    keys: issuerOf(issuer).jwks as unknown,
    document: { issuer, jwks_uri: `${issuer}/jwks` } as unknown,
    down: false,
  }
  const keys = openIssuerKeys({
    clock: { now: () => at.now },
    open: (to) => {
      at.opened.push(to)
      return async (url) => {
        at.asked.push(url)
        if (at.down) throw new ChaperoneError('upstream_timeout', 'no answer')
        return Response.json(url.endsWith('openid-configuration') ? at.document : at.keys)
      }
    },
  })
  return { at, of: (kid?: string) => keys.of({ issuer }, kid), keys }
}
const unreachable = (error: unknown) =>
  error instanceof ChaperoneError && error.code === 'upstream_unavailable' && /cannot reach the issuer/.test(error.message)

test('keys are found by discovery, once for many tokens', async () => {
  const { at, of } = world()
  assert.equal((await of('k1')).length, 1)
  await Promise.all([of('k1'), of('k1'), of()])
  assert.deepEqual(at.asked, [`${ISSUER}/.well-known/openid-configuration`, `${ISSUER}/jwks`])
})

test('many tokens at once ask the issuer once', async () => {
  const { at, of } = world()
  await Promise.all(Array.from({ length: 50 }, () => of('k1')))
  assert.equal(at.asked.length, 2)
})

test('rule 11: made-up key ids ask the issuer at most every half minute', async () => {
  const { at, of } = world()
  await of('k1')
  for (let i = 0; i < 100; i++) assert.deepEqual(await of(`made-up-${i}`), [])
  assert.equal(at.asked.length, 2)
  at.now += 30_000
  await of('made-up')
  assert.equal(at.asked.length, 4)
})

test('a rotated key is found by its id, and the old one is believed no longer', async () => {
  const { at, of } = world()
  await of('k1')
  at.keys = issuerOf(ISSUER, 'rsa', 'k2').jwks
  at.now += 30_000
  assert.equal((await of('k2')).length, 1)
  assert.deepEqual(await of('k1'), [])
})

test('keys are asked for again after ten minutes, and believed for an hour where the issuer is away', async () => {
  const { at, of } = world()
  await of('k1')
  at.now += 10 * 60_000
  await of('k1')
  assert.equal(at.asked.length, 4)
  at.down = true
  at.now += 59 * 60_000
  assert.equal((await of('k1')).length, 1)
  at.now += 60_000
  await assert.rejects(of('k1'), unreachable)
})

test('an issuer that is away is said to be, at once for those who come after', async () => {
  const { at, of } = world()
  at.down = true
  await assert.rejects(of('k1'), unreachable)
  await assert.rejects(of('k1'), unreachable)
  assert.equal(at.asked.length, 1)
  at.down = false
  at.now += 30_000
  assert.equal((await of('k1')).length, 1)
})

test('rule 1: a document that speaks for another issuer is not believed', async () => {
  const { at, of } = world()
  at.document = { issuer: 'https://other.example', jwks_uri: `${ISSUER}/jwks` }
  await assert.rejects(of('k1'), unreachable)
})

test('keys over plain http are not fetched', async () => {
  const { at, of } = world()
  at.document = { issuer: ISSUER, jwks_uri: 'http://ci.example/jwks' }
  await assert.rejects(of('k1'), unreachable)
  assert.equal(at.asked.length, 1)
})

test('rule 11: a set of a thousand keys is refused, and one that is no JSON or has a key twice', async () => {
  for (const keys of [{ keys: Array.from({ length: 1000 }, () => issuerOf(ISSUER).jwks.keys[0]) }, { keys: 'x' }, []]) {
    const { at, of } = world()
    at.keys = keys
    await assert.rejects(of('k1'), unreachable)
  }
})

test('rule 1: a published key counts that signs, and is of a kind that is believed', async () => {
  const { at, of } = world()
  const [own] = issuerOf(ISSUER).jwks.keys
  at.keys = {
    keys: [
      { ...own, kid: 'enc', use: 'enc' },
      { ...own, kid: 'other curve', crv: 'P-384' },
      { kty: 'OKP', crv: 'X25519', kid: 'exchange', x: own!.x },
      { kty: 'oct', kid: 'shared', k: 'c2VjcmV0' },
      { ...own, kid: 'good', use: undefined },
    ],
  }
  assert.deepEqual(
    (await of()).map(({ kid }) => kid),
    ['good'],
  )
})

test("an issuer that answers with a fault, or is away when it is asked for a new key, has none to offer, and nobody's token is blamed", async () => {
  const { at, of } = world()
  await of('k1')
  at.down = true
  at.now += 30_000
  await assert.rejects(of('k2'), unreachable)
  assert.equal((await of('k1')).length, 1)
  const faulty = openIssuerKeys({ clock: { now: () => 0 }, open: () => async () => Response.json(issuerOf(ISSUER).jwks, { status: 500 }) })
  await assert.rejects(faulty.of({ issuer: ISSUER, jwksUri: `${ISSUER}/jwks` }, 'k1'), unreachable)
})

test('keys of two documents are kept apart, although the issuer is the same', async () => {
  const { at, keys } = world()
  await keys.of({ issuer: ISSUER, allowPrivate: true, ca: 'A' }, 'k1')
  await keys.of({ issuer: ISSUER }, 'k1')
  assert.equal(at.asked.length, 4)
  assert.deepEqual(
    at.opened.map((to) => (to as { allowPrivate: boolean }).allowPrivate),
    [true, false],
  )
})

test('pinned keys are never fetched', async () => {
  const { at, keys } = world()
  const { jwks } = issuerOf(ISSUER)
  assert.equal((await keys.of({ issuer: ISSUER, jwks }, 'k1')).length, 1)
  assert.deepEqual(await keys.of({ issuer: ISSUER, jwks }, 'k2'), [])
  assert.deepEqual(at.asked, [])
})
