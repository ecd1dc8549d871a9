import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, door, governed, invited, issued, READER, renewed, things, unrenewed } from '../parts/governed.ts'

/** `chaperone ca rotate`: a new key for every authority, and nothing live breaks. */

test('rotating every authority breaks nothing that is live, and old credentials count until their end', async (t) => {
  const own = await governed(t)
  const { dir, server, dana } = own
  const postgres = await things(t, own, `kind: user\nname: boris\nspec: { roles: [reader] }\n---\n${READER}`)
  const boris = await invited(t, dana, 'boris', dir)
  const keeper = await renewed(t, boris, 'tester')
  const through = await door(t, keeper, 'things', 'postgres')
  const live = await connect(t, through, 'reader', 'postgres')
  const old = await issued(dana, 'boris', '5m')
  const count = async (client: typeof live) => (await client.query('SELECT count(*)::int AS count FROM things')).rows[0]?.count
  assert.equal(await count(live), 2)

  const resourceId = server.parts.resources.find('postgres', 'things')!.resource.id
  for (const purpose of ['identity', 'server', `database:${resourceId}`]) {
    const before = await server.parts.ca.fingerprint(purpose as 'identity')
    const rotated = await dana.api.call<{ fingerprint: string; believedUntil: number }>('POST', '/v1/ca/rotate', { purpose })
    assert.notEqual(rotated.fingerprint, before, `${purpose} has a new key`)
    assert.ok(rotated.believedUntil > Date.now())
  }

  assert.equal(await count(live), 2, 'the open connection goes on')
  assert.equal((await boris.api.call<{ name: string }>('GET', '/v1/whoami')).name, 'boris', 'the old certificate still signs in')
  // The database learns the new authority as an operator would do it, and its own certificate stays.
  await postgres.configure({ tls: { ...({} as { cert: string; key: string }), clientCa: await server.parts.ca.bundle(`database:${resourceId}`) } })
  const again = await connect(t, through, 'reader', 'postgres')
  assert.equal(await count(again), 2, 'a new connection with the old certificate of the client works')
  const withOld = await connect(t, await door(t, unrenewed(old), 'things', 'postgres'), 'reader', 'postgres')
  assert.equal(await count(withOld), 2)
  const fresh = await issued(dana, 'boris', '5m')
  const withNew = await connect(t, await door(t, unrenewed(fresh), 'things', 'postgres'), 'reader', 'postgres')
  assert.equal(await count(withNew), 2, 'and so does one under the new authority')
})
