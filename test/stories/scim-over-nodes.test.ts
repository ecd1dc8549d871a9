import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openApi } from '../../src/client/api.ts'
import { enrol } from '../../src/demo/person.ts'
import { startPostgres } from '../../src/demo/postgres.ts'
import { findIdentity } from '../../src/identity/directory.ts'
import { newId } from '../../src/ids.ts'
import { type RunningServer, startServer } from '../../src/server/start.ts'
import { apply, issued } from '../parts/governed.ts'
import { ask } from '../parts/house.ts'

const TOKEN = 'the-token-of-the-directory-0123456789'
/** As many as a large company has in one group; in `npm test` fewer, but more than one statement or page holds. */
const MANY = process.env.CHAPERONE_DEEP ? 5_000 : 1_200

test('rule 6: SCIM at two nodes over PostgreSQL: nothing is lost between them, and who is gone is stopped on both with his agents', {
  timeout: 150_000,
}, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-scim-'))
  t.after(() => rm(dir, { recursive: true, force: true, maxRetries: 10 }))
  const postgres = await startPostgres({ dir: join(dir, 'store') })
  t.after(() => postgres.stop())
  const options = (name: string) => ({
    ...{ dataDir: join(dir, name), store: postgres.superuserUrl, admin: 'dana', logLevel: 'silent' as const },
    ...{ listen: '127.0.0.1:0', webListen: '127.0.0.1:0', postgresListen: '127.0.0.1:0' },
  })
  const one = await startServer(options('one'))
  t.after(() => one.stop())
  const dana = await enrol('dana', one.invitation!.line, join(dir, 'dana'))
  t.after(async () => dana.api.close())
  const two = await startServer({ ...options('two'), rootKey: join(dir, 'one.root-key') })
  t.after(() => two.stop())
  await dana.api.call('PUT', '/v1/secrets/scim', { value: TOKEN })
  await apply(
    dana,
    `
kind: directory
name: company
spec:
  name: { claim: email, domain: example.com }
  groups: scim
  roles: { Everybody: [developer] }
  scim: { token: { secret: scim } }
---
kind: role
name: developer
spec: { allow: [ { chaperone: any, verbs: [audit.read] } ] }
`,
  )

  const scim = async (at: RunningServer, method: string, path: string, body?: unknown) => {
    const { status, text } = await ask(at.addresses.web, `/scim/v2/company${path}`, {
      method,
      headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/scim+json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    // biome-ignore lint/suspicious/noExplicitAny: answers of many shapes
    return { status, body: (text === '' ? undefined : JSON.parse(text)) as any }
  }
  const user = (at: RunningServer, name: string, externalId = `ext-${name}`) =>
    scim(at, 'POST', '/Users', { userName: `${name}@example.com`, externalId, displayName: name, active: true })
  const patch = (at: RunningServer, path: string, ...Operations: unknown[]) => scim(at, 'PATCH', path, { Operations })
  const { db } = one.parts.store

  await t.test('of two nodes that make the same user one does, and the other is told 409', async () => {
    for (let round = 0; round < 5; round++) {
      const both = await Promise.all([user(one, `race${round}`), user(two, `race${round}`)])
      assert.deepEqual(both.map(({ status }) => status).sort(), [201, 409], JSON.stringify(both))
      // The same name by two different people of the directory.
      const two2 = await Promise.all([user(one, `name${round}`, `a-${round}`), user(two, `name${round}`, `b-${round}`)])
      assert.deepEqual(two2.map(({ status }) => status).sort(), [201, 409])
    }
  })

  await t.test('two that change one user, or one group, at the same moment both have done it', async () => {
    const { body: mara } = await user(one, 'mara')
    const members = await Promise.all(['m1', 'm2', 'm3', 'm4', 'm5', 'm6'].map(async (name) => (await user(two, name)).body.id as string))
    const { body: group } = await scim(one, 'POST', '/Groups', { displayName: 'Team' })
    const nodes = [one, two]
    const answers = await Promise.all(
      members.map((value, i) => patch(nodes[i % 2]!, `/Groups/${group.id}`, { op: 'Add', path: 'members', value: [{ value }] })),
    )
    assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200], JSON.stringify(answers))
    const there = (await scim(two, 'GET', `/Groups/${group.id}`)).body.members.map((member: { value: string }) => member.value)
    assert.deepEqual(there.sort(), [...members].sort())
    const changed = await Promise.all([
      patch(one, `/Users/${mara.id}`, { op: 'Replace', path: 'title', value: 'lead' }),
      patch(two, `/Users/${mara.id}`, { op: 'Replace', path: 'displayName', value: 'Mara' }),
    ])
    assert.deepEqual(
      changed.map(({ status }) => status),
      [200, 200],
      JSON.stringify(changed),
    )
    const { body } = await scim(one, 'GET', `/Users/${mara.id}`)
    assert.deepEqual([body.title, body.displayName], ['lead', 'Mara'])
  })

  await t.test('who is gone at one node is stopped at the other before the directory has its answer, with his agent', async () => {
    const { body } = await user(one, 'boris')
    await apply(dana, 'kind: agent\nname: boris-bot\nspec: { owner: boris, roles: [developer] }\n')
    const held = await issued(dana, 'boris-bot', '10m')
    const there = openApi({
      address: `localhost:${two.addresses.data.split(':').at(-1)}`,
      authorities: held.profile.bundles.server,
      identity: held,
    })
    t.after(async () => there.close())
    await there.call('GET', '/v1/whoami')
    const connection = two.parts.sessions
      .list()
      .find(({ id }) => id === held.profile.session)!
      .connect('test')
    const began = performance.now()
    assert.equal((await patch(one, `/Users/${body.id}`, { op: 'Replace', path: 'active', value: 'False' })).status, 200)
    t.diagnostic(`stopped on both nodes within ${Math.round(performance.now() - began)} ms`)
    assert.ok(connection.signal.aborted || !two.parts.lease.valid(), 'cut, or that node has no lease, and lets nothing through')
    await assert.rejects(there.call('GET', '/v1/whoami'))
    assert.equal((await findIdentity(db, { name: 'boris' }))?.state, 'disabled')
  })

  await t.test(`a group of ${MANY} members comes, changes and goes in bounded time`, async () => {
    const now = Date.now()
    const people = Array.from({ length: MANY }, (_, i) => ({ id: newId('usr', now), account: newId('acc', now), name: `p${i}` }))
    await one.parts.store.write(async (trx) => {
      for (let from = 0; from < MANY; from += 500) {
        const some = people.slice(from, from + 500)
        await trx
          .insertInto('identities')
          .values(
            some.map(({ id, name }) => ({
              ...{ id, kind: 'user' as const, name, owner_id: null, state: 'active' as const, traits: '{}', roles: '[]', source: 'directory' },
              ...{ created_at: now, updated_at: now, reviewed_at: null, reviewed_by: null, last_used_at: null },
              ...{ stopped: null, stops_at: null, told_at: null, given: null },
            })),
          )
          .execute()
        await trx
          .insertInto('accounts')
          .values(
            some.map(({ id, account, name }) => ({
              ...{ id: account, directory: 'company', subject: null, identity_id: id, external_id: name, user_name: `${name}@example.com` },
              ...{ email: null, data: '{}', groups: '[]', active: 1, created_at: now, updated_at: now, last_login_at: null, deleted_at: null },
            })),
          )
          .execute()
      }
    })
    const timed = async (what: string, work: () => Promise<{ status: number; body: unknown }>) => {
      const began = performance.now()
      const answer = await work()
      t.diagnostic(`${what}: ${Math.round(performance.now() - began)} ms`)
      assert.ok(answer.status < 300, String(JSON.stringify(answer.body)).slice(0, 300))
      return answer
    }
    const members = people.map(({ account }) => ({ value: account }))
    const made = await timed('made', () => scim(one, 'POST', '/Groups', { displayName: 'Everybody', members }))
    const at = `/Groups/${(made.body as { id: string }).id}`
    assert.deepEqual((await findIdentity(db, { name: `p${MANY - 1}` }))?.roles, ['developer'])
    await timed('one member less', () => patch(two, at, { op: 'Remove', path: `members[value eq "${members[0]!.value}"]` }))
    assert.deepEqual((await findIdentity(db, { name: 'p0' }))?.roles, [])
    await timed('read', () => scim(two, 'GET', at))
    await timed('a page of 200 users', () => scim(one, 'GET', `/Users?startIndex=${MANY - 400}&count=200`))
    await timed('gone', () => scim(one, 'DELETE', at))
    assert.deepEqual((await findIdentity(db, { name: `p${MANY - 1}` }))?.roles, [])
  })
})
