import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Explained } from '../../src/api/contract.ts'
import { ChaperoneError } from '../../src/errors.ts'
import { answerOf, eventually, harness, type Json, openSession } from '../../src/gateways/mcp/harness.fixture.ts'
import { rawServer, tool } from './raw-server.ts'
import { byCertificate, type Door, legacy, modern, shakeHands, type Whole, whole } from './whole.ts'

// Policy that is stored, shown and never asked; policy that fails open. Numbers are of the peers' bugs.

const identities = `
kind: user
name: boris
spec: { roles: [] }
---
kind: agent
name: bot
spec: { owner: boris, roles: [work] }
`
const server = (url: string) => `---
kind: mcp
name: files
spec: { url: ${JSON.stringify(url)} }
`
const role = (spec: string) => `---
kind: role
name: work
spec: ${spec}
`
const guardrail = (spec: string) => `---
kind: guardrail
name: fence
spec: ${spec}
`
const ANY = '{ allow: [{ mcp: files, can: any }] }'
const HARMLESS = guardrail('{ deny: [{ mcp: files, tools: [never_there] }] }')

describe('what is applied is what decides', () => {
  const undo: (() => Promise<void>)[] = []
  let all: Whole
  let bot: Door
  before(async () => {
    all = await whole({ after: (work) => void undo.unshift(work) }, (url) => identities + role(ANY) + HARMLESS + server(url))
    bot = byCertificate(all.home.server.addresses.data, await all.credential('bot', '1h'))
  })
  after(async () => {
    for (const step of undo) await step()
  })
  const call = async (name: string, args: Record<string, unknown> = {}) =>
    (await bot('/mcp/files', modern('tools/call', { name, arguments: args }))).text
  const echo = (args: Record<string, unknown> = {}) => call('echo', args)
  const reasonOf = (text: string) => {
    const { result, error } = JSON.parse(text) as Json
    if (result?.resultType === 'input_required') return 'approval_required'
    return /Reason: (\w+)/.exec(text)?.[1] ?? error?.data?.reason
  }

  /** One of each kind of thing that a document can say to refuse a call; what it says must be the reason that comes back. */
  const kinds: readonly (readonly [what: string, documents: string, reason: string, args?: Record<string, unknown>])[] = [
    ['a deny rule', role('{ allow: [{ mcp: files, can: any }], deny: [{ mcp: files, tools: [echo] }] }'), 'denied_by_rule'],
    ['an allow rule for another tool', role('{ allow: [{ mcp: files, tools: [test_*] }] }'), 'no_rule'],
    ['effects', role('{ allow: [{ mcp: files, can: read }] }'), 'no_rule'],
    [
      'a condition on an argument',
      role('{ allow: [{ mcp: files, tools: any, args: { path: { under: /reports } } }] }'),
      'no_rule',
      { path: '/etc/passwd' },
    ],
    [
      'a condition on an argument in deny',
      role('{ allow: [{ mcp: files, can: any }], deny: [{ mcp: files, tools: [echo], args: { n: { min: 5 } } }] }'),
      'denied_by_rule',
      { n: 6 },
    ],
    ['where', role(`{ allow: [{ mcp: files, tools: any, where: 'args.n < 5' }] }`), 'no_rule', { n: 6 }],
    ['where in deny', role(`{ allow: [{ mcp: files, can: any }], deny: [{ mcp: files, where: 'args.n > 5' }] }`), 'denied_by_rule', { n: 6 }],
    ['hours', role('{ when: { days: [], zone: UTC }, allow: [{ mcp: files, can: any }] }'), 'no_rule'],
    ['an ask rule', role('{ allow: [{ mcp: files, can: any }], ask: [{ mcp: files, tools: [echo] }] }'), 'approval_required'],
    ['a guardrail', guardrail('{ deny: [{ mcp: files, tools: [echo] }] }'), 'denied_by_guardrail'],
    ['a guardrail that asks', guardrail('{ ask: [{ mcp: files, tools: [echo] }] }'), 'approval_required'],
    ['a guardrail for some', guardrail('{ for: { kind: agent }, deny: [{ mcp: files, tools: [echo] }] }'), 'denied_by_guardrail'],
    ['a rate', role('{ allow: [{ mcp: files, can: any, limits: { rate: "1/1h" } }] }'), 'rate_limited'],
    ['a budget', role('{ allow: [{ mcp: files, can: any, limits: { budget: "1/1d" } }] }'), 'budget_spent'],
    ['a limit of a guardrail', guardrail('{ limit: [{ mcp: files, limits: { rate: "1/1h" } }] }'), 'rate_limited'],
  ]
  for (const [what, documents, reason, args = {}] of kinds) {
    test(`${what} refuses a real call end to end (R22)`, async () => {
      await all.home.apply(role(ANY) + HARMLESS)
      assert.match(await echo(args), /"content"/, 'without it the call passes')
      await all.home.apply(documents)
      if (/rate|budget/.test(documents)) await echo(args)
      const reached = all.reached('"echo"')
      assert.equal(reasonOf(await echo(args)), reason)
      assert.equal(all.reached('"echo"'), reached)
    })
  }

  test('a lock on identity, role, resource or session refuses a real call end to end, and on one session only that one (R22, R64)', async () => {
    await all.home.apply(role(ANY) + HARMLESS)
    for (const [kind, target] of Object.entries({ identity: 'bot', role: 'work', resource: 'mcp/files', session: '', everything: '*' })) {
      const one = kind === 'session' ? await all.credential('bot') : undefined
      const door = one ? byCertificate(all.home.server.addresses.data, one) : bot
      const ask = () => door('/mcp/files', modern('tools/call', { name: 'echo', arguments: {} })).then(({ text }) => text)
      assert.match(await ask(), /"content"/)
      const reached = all.reached('"echo"')
      const lock = { kind, target: one?.profile.session ?? target, reason: 'a test' }
      const { id } = await all.home.dana.api.call<{ id: string }>('POST', '/v1/locks', lock)
      const refused = await ask()
      assert.match(refused, /locked|There is no MCP server/, kind)
      assert.equal(all.reached('"echo"'), reached, kind)
      if (kind === 'session') assert.match(await echo(), /"content"/, 'another run of the same agent goes on')
      await all.home.dana.api.call('DELETE', `/v1/locks/${id}`)
      bot = byCertificate(all.home.server.addresses.data, await all.credential('bot', '1h'))
    }
  })

  test('a rule where it does nothing is refused when it is applied (R23)', async () => {
    const nowhere = [
      guardrail('{ allow: [{ mcp: files, can: any }] }'),
      guardrail('{ limit: [{ mcp: files }] }'),
      role('{ allow: [{ mcp: files, tables: ["public.*"] }] }'),
      role('{ allow: [{ mcp: files, can: any, approvers: { role: work } }] }'),
      role('{ deny: [{ mcp: files, limits: { rate: "1/1m" } }] }'),
      role('{ allow: [{ mcp: files, resources: any, args: { path: x } }] }'),
      role('{ allow: [{ mcp: files, tools: any, headers: { x-team: a } }] }'),
      role(`{ allow: [{ mcp: files, tools: any, where: 'request.headers["x-team"] == "a"' }] }`),
      '---\nkind: mcp\nname: files\nspec: { url: "http://127.0.0.1:1/mcp", deny: [{ tools: any }] }\n',
      '---\nkind: user\nname: boris\nspec: { roles: [], deny: [{ mcp: any }] }\n',
    ]
    for (const documents of nowhere) await assert.rejects(all.home.apply(documents), { code: 'invalid_document' }, documents)
  })

  test('rule 1: when deciding itself fails, every call is refused, says that this is why, and nothing is sent (R25)', async () => {
    await all.home.apply(role(ANY) + HARMLESS)
    const session = await shakeHands(bot, '/mcp/files')
    assert.match(await echo(), /"content"/)
    const { state } = all.home.server.parts
    const current = state.current
    const reached = all.asked().length
    const policy = new Proxy(current().policy, {
      get() {
        throw new Error('the engine is dead')
      },
    })
    const dead = { ...current(), policy }
    Object.assign(state, { current: () => dead })
    try {
      const before = all.records.length
      for (const door of ['/mcp/files', '/mcp'])
        for (const request of [
          modern('tools/call', { name: 'echo', arguments: {} }),
          modern('tools/list'),
          { headers: session, body: legacy('tools/call', { name: 'echo' }) },
        ]) {
          const { text } = await bot(door, request)
          assert.doesNotMatch(text, /"content"|inputSchema/, text)
        }
      const refused = () => all.records.slice(before).filter(({ type }) => type === 'action.refused')
      await eventually(() => refused().length > 0, 'refusals are on record')
      assert.deepEqual(new Set(refused().map(({ decision }) => decision?.reason)), new Set(['policy_error']))
    } finally {
      Object.assign(state, { current })
    }
    assert.deepEqual(all.asked().slice(reached), [])
    assert.match(await echo(), /"content"/, 'and when it lives again, calls pass')
  })

  test('rule 3: when the record is gone, every call is refused, says that this is why, and nothing is sent (R25, R70)', async () => {
    await all.home.apply(role(ANY) + HARMLESS)
    assert.match(await echo(), /"content"/)
    const { audit } = all.home.server.parts
    const { append } = audit
    const reached = all.asked().length
    Object.assign(audit, {
      append: async () => {
        throw new ChaperoneError('audit_unavailable', 'The record cannot be written.')
      },
    })
    try {
      for (const request of [modern('tools/call', { name: 'echo', arguments: {} }), modern('tools/list'), modern('prompts/list')]) {
        const { text } = await bot('/mcp/files', request)
        assert.equal(reasonOf(text), 'audit_unavailable', text)
      }
      assert.doesNotMatch((await bot('/mcp', modern('tools/list'))).text, /inputSchema/)
    } finally {
      Object.assign(audit, { append })
    }
    assert.deepEqual(all.asked().slice(reached), [])
    assert.match(await echo(), /"content"/)
  })

  test('what is not said is denied: deny rules alone allow nothing, empty lists are none, and explain says so (R26, R31)', async () => {
    for (const spec of [
      '{ deny: [{ mcp: files, tools: [wipe] }] }',
      '{ allow: [] }',
      '{ allow: [{ mcp: files, tools: [] }] }',
      '{ allow: [{ mcp: [], can: any }] }',
    ]) {
      await all.home.apply(role(spec) + HARMLESS)
      assert.doesNotMatch(await echo(), /"content":\[\{"type":"text","text":"\{/, spec)
      const listed = (await bot('/mcp/files', modern('tools/list'))).text
      assert.doesNotMatch(listed, /inputSchema/, spec)
      const question = { as: 'bot', kind: 'mcp', resource: 'files', tool: 'echo' }
      const { verdict, reason, missing } = await all.home.dana.api.call<Explained>('POST', '/v1/explain', question)
      assert.deepEqual([verdict, reason], ['deny', 'no_rule'], spec)
      assert.match(missing ?? '', /gives anything|allow/)
    }
  })

  test('rule 6: of a hundred callers under way, none gets a call through after the apply that takes the role is answered (R33)', {
    timeout: 180_000,
  }, async () => {
    await all.home.apply(role(ANY) + HARMLESS)
    const session = await shakeHands(bot, '/mcp/files')
    let acknowledged = false
    let stop = false
    let sent = 0
    let through = 0
    let late = 0
    const caller = async (i: number) => {
      while (!stop) {
        const begun = acknowledged
        const request =
          i % 2
            ? modern('tools/call', { name: 'echo', arguments: { i } })
            : { headers: session, body: legacy('tools/call', { name: 'echo', arguments: { i } }, `${i}-${sent}`) }
        sent++
        const { text } = await bot('/mcp/files', request)
        if (!/"content"/.test(text) || /refused/.test(text)) continue
        through++
        if (begun) late++
      }
    }
    const callers = Array.from({ length: 24 }, (_, i) => caller(i))
    await eventually(() => through > 50, 'calls pass')
    await all.home.apply(role('{ allow: [{ mcp: files, prompts: any }] }'))
    acknowledged = true
    const reached = all.fixture.world.counts.get('tools/call')
    const after = sent
    await eventually(() => sent > after + 60, 'they go on asking')
    stop = true
    await Promise.all(callers)
    assert.equal(late, 0)
    assert.equal(all.fixture.world.counts.get('tools/call'), reached, 'nothing reached the server after the answer')
  })
})

for (const era of ['legacy', 'modern'] as const) {
  test(`what a server adds, renames or announces while it runs is filtered and judged like what it had (${era}; R18)`, async (t) => {
    const raw = await rawServer(era, ['read', 'drop'])
    const given = await harness({
      role: { allow: [{ mcp: 'any', tools: ['read*', 'mcp-*'] }], deny: [{ mcp: 'any', tools: ['mcp-exec'] }] },
      servers: { s: { url: raw.url } },
    })
    t.after(async () => {
      await given.close()
      raw.close()
    })
    const session = era === 'legacy' ? await openSession(given, 's') : {}
    const ask = async (method: string, params: Record<string, unknown> = {}) => {
      const request = modern(method, params)
      return answerOf(await (era === 'modern' ? given.post('s', request.body, request.headers) : given.post('s', legacy(method, params), session)))
    }
    const names = async () => ((await ask('tools/list')).result.tools as Json[]).map(({ name }) => name as string)
    assert.deepEqual(await names(), ['read'])
    raw.results.set(
      'tools/list',
      `{"tools":[${['read', 'drop', 'read_more', 'mcp-exec', 'mcp-add', 'Read', 'DROP'].map((name) => tool(name)).join(',')}]}`,
    )
    assert.deepEqual(await names(), ['read', 'read_more', 'mcp-add'])
    for (const name of ['mcp-exec', 'drop', 'DROP', 'Read']) {
      const { result, error } = await ask('tools/call', { name, arguments: { name: 'read' } })
      assert.ok(error ?? result.isError, name)
      assert.equal(raw.calls(name), 0)
    }
    // A tool that calls others is one tool: only its own name is judged, so it has to be allowed by name.
    assert.equal((await ask('tools/call', { name: 'mcp-add', arguments: {} })).result.content[0].text, 'done')
  })
}
