import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LockRow } from '../../src/api/contract.ts'
import type { Held } from '../../src/client/credential.ts'
import { openDataPlane } from '../../src/client/data-plane.ts'
import { ChaperoneError } from '../../src/errors.ts'
import { connect, door, governed, issued, things, unrenewed } from '../parts/governed.ts'
import { call, holding, until } from '../parts/holding.ts'

/** Every kind of lock on what is live: calls of a real MCP server under way, statements of a real PostgreSQL that run. */

const WORLD = (mcp: number) => `
kind: mcp
name: files
spec: { url: "http://127.0.0.1:${mcp}/", tools: { hold: { effects: [read] }, wait: { effects: [read] }, say: { effects: [read] } } }
---
${['worker', 'other']
  .map(
    (role) =>
      `kind: role\nname: ${role}\nspec: { allow: [{ mcp: files, tools: any }, { postgres: things, databases: [postgres], as: reader, can: read }] }\n---`,
  )
  .join('\n')}
kind: user
name: boris
spec: {}
---
kind: user
name: olga
spec: {}
---
kind: agent
name: boris-ai
spec: { owner: boris, roles: [worker] }
---
kind: agent
name: olga-ai
spec: { owner: olga, roles: [other] }
`

test('rule 6: every kind of lock cuts what it names on both protocols, with their own goodbye, and nothing beside it', {
  timeout: 120_000,
}, async (t) => {
  const own = await governed(t)
  const { server, dana } = own
  const upstream = await holding(t)
  await things(t, own, WORLD(upstream.port), { nap: true })

  /** A session at work: two calls and a statement under way. */
  const atWork = async (name: string) => {
    const held: Held = await issued(dana, name, '10m')
    const before = upstream.underWay()
    const plane = openDataPlane(unrenewed(held))
    const client = await connect(t, await door(t, unrenewed(held), 'things', 'postgres'), 'reader', 'postgres')
    const ended = { hold: undefined as string | undefined, wait: undefined as string | undefined, statement: undefined as string | undefined }
    const over = {
      hold: call(plane, 'hold').then((text) => (ended.hold = text)),
      wait: call(plane, 'wait').then((text) => (ended.wait = text)),
      statement: client.query('SELECT nap()').then(
        () => (ended.statement = 'done'),
        (error: { code?: string; message: string }) => (ended.statement = `${error.code} ${error.message}`),
      ),
    }
    await until(() => upstream.underWay() === before + 2)
    const [{ session, credential }] = server.parts.sessions
      .list()
      .filter(({ principal }) => principal.sessionId === held.profile.session)
      .map(({ id, principal }) => ({ session: id, credential: principal.credentialId })) as [{ session: string; credential: string }]
    return { held, plane, client, ended, over, session, credential }
  }

  const all = ['hold', 'wait', 'statement'] as const
  type Part = (typeof all)[number]
  const table: readonly {
    readonly kind: string
    readonly target: (one: { readonly session: string; readonly credential: string }) => string
    readonly cut: readonly Part[]
    readonly others: readonly Part[]
    readonly issue?: false
  }[] = [
    { kind: 'identity', target: () => 'boris-ai', cut: all, others: [] },
    { kind: 'identity', target: () => 'boris', cut: all, others: [] },
    { kind: 'owner', target: () => 'boris', cut: all, others: [] },
    { kind: 'agents', target: () => '*', cut: all, others: all },
    { kind: 'role', target: () => 'worker', cut: all, others: [] },
    { kind: 'session', target: ({ session }) => session, cut: all, others: [], issue: false },
    { kind: 'credential', target: ({ credential }) => credential, cut: all, others: [], issue: false },
    { kind: 'resource', target: () => 'mcp/files', cut: ['hold', 'wait'], others: ['hold', 'wait'], issue: false },
    { kind: 'resource', target: () => 'things', cut: ['statement'], others: ['statement'], issue: false },
    { kind: 'tool', target: () => 'files/hold', cut: ['hold'], others: ['hold'], issue: false },
    { kind: 'everything', target: () => '*', cut: all, others: all, issue: false },
  ]
  for (const { kind, target, cut, others, issue = true } of table) {
    const [his, hers] = [await atWork('boris-ai'), await atWork('olga-ai')]
    const title = `${kind} ${target(his)}`
    await dana.freshFactor()
    const lock = await dana.api.call<LockRow>('POST', '/v1/locks', { kind, target: target(his), reason: 'incident 7' })
    const reached = upstream.calls()
    for (const part of cut) await his.over[part]
    for (const part of others) await hers.over[part]
    for (const [one, expected] of [
      [his, cut],
      [hers, others],
    ] as const)
      for (const part of all)
        assert.equal(one.ended[part] !== undefined, expected.includes(part), `${title}: ${part} ${one.ended[part] ?? 'goes on'}`)
    // The goodbye is the protocol's own, and says why.
    if (cut.includes('statement')) assert.match(his.ended.statement ?? '', /^57P01 .*incident 7/s, title)
    if (cut.includes('hold')) assert.match(his.ended.hold ?? '', /incident 7/, title)
    // What is new is refused, and reaches nobody.
    if (cut.includes('hold')) assert.match(await call(openDataPlane(unrenewed(his.held)), 'hold'), /incident 7|locked|^none/, title)
    if (cut.includes('statement') && kind !== 'everything')
      await assert.rejects(
        (async () => connect(t, await door(t, unrenewed(his.held), 'things', 'postgres'), 'reader', 'postgres'))(),
        `${title}: a new connection`,
      )
    assert.equal(upstream.calls(), reached, `${title}: nothing reached the server after the answer`)
    if (issue)
      await assert.rejects(issued(dana, 'boris-ai', '1m'), (error: unknown) => error instanceof ChaperoneError && error.code === 'locked', title)
    await dana.api.call('DELETE', `/v1/locks/${lock.id}`)
    // What it stopped may come again; what was cut stays cut.
    const again = openDataPlane(unrenewed(kind === 'credential' || kind === 'session' ? await issued(dana, 'boris-ai', '1m') : his.held))
    assert.match(await call(again, 'say'), /^200 .*said/s, title)
    for (const one of [his, hers]) {
      one.plane.close()
      await one.client.end().catch(() => {})
    }
    again.close()
    await until(() => upstream.underWay() === 0)
  }
})
