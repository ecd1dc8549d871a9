import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { LiveSession } from '../identity/types.ts'
import type { AuditPage } from './audit-contract.ts'
import type { RequestNotice, RequestRow, RequestWay } from './requests-contract.ts'
import { openRequestHouse, readUntil } from './requests-house.fixture.ts'
import { STREAM_LIMITS } from './stream.ts'

const NOBODY = 'req_00000000000000000000000000'

describe('asking for a role for a while', () => {
  test('the one who asks sees what it is, who decides and where; a yes of somebody else gives it for that time', async (t) => {
    const { asks, show, decide, signIn, calls, clock, records } = await openRequestHouse(t)
    const bot = await signIn('bot', { factorGiven: false, purpose: 'the monthly report' })
    assert.equal((await calls(bot, 'files', 'write_file')).refused, 'no_rule')
    const asked = await asks(bot, { resource: { kind: 'mcp', name: 'files' } })
    assert.deepEqual(
      { ...asked, id: '', createdAt: 0, updatedAt: 0, session: '', seen: '', url: '' },
      {
        id: '',
        kind: 'access',
        state: 'pending',
        summary: 'role writer on mcp/files for 10m',
        resource: 'mcp/files',
        access: { role: 'writer', forMs: 600_000, below: false },
        by: 'bot',
        chain: ['bot'],
        reason: 'order 17',
        purpose: 'the monthly report',
        session: '',
        approvers: 'a holder of role keeper',
        votes: [],
        createdAt: 0,
        updatedAt: 0,
        expiresAt: asked.createdAt + 24 * 3_600_000,
        standing: asked.standing,
        seen: '',
        url: '',
      },
    )
    assert.equal(asked.url, `https://test.internal:7444/requests/${asked.id}`)
    assert.ok(asked.standing.no, 'it says why he cannot decide')

    const erik = await signIn('erik')
    const { value: seen } = await show(erik, asked.id)
    assert.deepEqual(seen.standing, { own: false, confirms: false })
    const { value, status } = await decide(erik, seen, { for: '5m', reason: 'looks right' })
    assert.equal(status, 200)
    assert.deepEqual([value.state, value.decidedBy, value.endsAt], ['approved', 'erik', clock.now() + 300_000])
    assert.deepEqual(
      value.votes.map(({ by, verdict, reason, how }) => [by, verdict, reason, how]),
      [['erik', 'approve', 'looks right', 'cli']],
    )
    assert.ok((await calls(bot, 'files', 'write_file')).permit, 'in the session that is open already')
    assert.ok(records.some(({ type, actor, data }) => type === 'request.decided' && actor?.name === 'erik' && data?.request === asked.id))
    clock.advance(300_000)
    const later = await signIn('bot', { factorGiven: false })
    assert.equal((await calls(later, 'files', 'write_file')).refused, 'no_rule', 'five minutes later')
  })

  test('what may be asked for is listed; anything else is as if it were not there', async (t) => {
    const { ask, signIn } = await openRequestHouse(t)
    const boris = await signIn('boris')
    const { ways } = (await ask<{ ways: RequestWay[] }>(boris, 'GET', '/v1/requests/ways')).value
    assert.deepEqual(
      ways.map(({ role, by, maxMs, reason, resources }) => ({ role, by, maxMs, reason, resources })),
      [{ role: 'writer', by: 'boris', maxMs: 3_600_000, reason: 'required', resources: [{ kind: 'mcp', name: 'files' }] }],
    )
    assert.deepEqual((await ask<{ ways: RequestWay[] }>(await signIn('carla'), 'GET', '/v1/requests/ways')).value.ways, [])
    const wish = (more: object) => ask(boris, 'POST', '/v1/requests', { kind: 'access', role: 'writer', reason: 'x', ...more })
    const unknown = await wish({ role: 'nothing' })
    assert.equal(unknown.code, 'not_found')
    assert.deepEqual(await wish({ role: 'admin' }), unknown)
    const nowhere = await wish({ resource: { kind: 'mcp', name: 'nothing' } })
    assert.equal(nowhere.code, 'not_found')
    assert.deepEqual(await wish({ resource: { kind: 'mcp', name: 'mail' } }), nowhere, 'the role has nothing to do with it')
    for (const [more, says] of [
      [{ for: '2h' }, /1h at the most/],
      [{ for: 'long' }, /not a duration/],
      [{ reason: undefined }, /reason/i],
      [{ startsAt: Date.UTC(2026, 10, 23) }, /too far/],
      [{ wait: true }, /unrecognized|Unrecognized/],
    ] as const) {
      const { code, value } = await wish(more)
      assert.equal(code, 'usage', JSON.stringify(more))
      assert.match(value.error!.message, says)
    }
  })

  test('rule 7: what a person was given his agents have only when the approver said so', async (t) => {
    const { asks, signIn, client, calls, decide } = await openRequestHouse(t)
    const [boris, fred] = [await signIn('boris'), await signIn('fred')]
    const claude = await client('boris', 'claude')
    assert.equal((await decide(fred, await asks(boris))).value.access?.below, false)
    assert.ok((await calls(boris, 'files', 'write_file')).permit)
    assert.ok((await calls(claude, 'files', 'write_file')).refused)
    assert.equal((await decide(fred, await asks(boris), { below: true })).value.access?.below, true)
    assert.ok((await calls(claude, 'files', 'write_file')).permit)
  })

  test('break-glass is there at once, and somebody else looks at it afterwards', async (t) => {
    const { ask, asks, signIn, calls } = await openRequestHouse(t)
    const bot = await signIn('bot', { factorGiven: false })
    const taken = await asks(bot, { breakGlass: true })
    assert.deepEqual([taken.state, taken.access?.breakGlass, taken.reviewDue !== undefined], ['approved', true, true])
    assert.ok((await calls(bot, 'files', 'write_file')).permit)
    const review = (who: LiveSession) => ask<RequestRow>(who, 'POST', `/v1/requests/${taken.id}/review`, { note: 'incident 42' })
    assert.equal((await review(await signIn('boris'))).code, 'approval_refused')
    assert.equal((await review(await signIn('carla'))).code, 'not_found')
    assert.equal((await review(await signIn('erik', { factorGiven: false }))).code, 'factor_required')
    const reviewed = await review(await signIn('erik'))
    assert.equal(reviewed.value.reviewedBy, 'erik')
    assert.equal((await review(await signIn('fred'))).code, 'conflict')
  })

  test('who asked gives it back; who could approve takes it away; both at once, in open sessions', async (t) => {
    const { ask, asks, signIn, calls, decide } = await openRequestHouse(t)
    const bot = await signIn('bot', { factorGiven: false })
    const erik = await signIn('erik')
    const granted = async () => {
      const asked = await asks(bot)
      assert.equal((await decide(erik, asked)).status, 200)
      assert.ok((await calls(bot, 'files', 'write_file')).permit)
      return asked.id
    }
    const first = await granted()
    const revoke = (who: LiveSession, id: string) => ask<RequestRow>(who, 'POST', `/v1/requests/${id}/revoke`, { reason: 'wrong table' })
    assert.equal((await revoke(await signIn('boris'), first)).code, 'approval_refused')
    assert.equal((await revoke(await signIn('carla'), first)).code, 'not_found')
    assert.equal((await revoke(await signIn('fred', { factorGiven: false }), first)).code, 'factor_required')
    assert.ok((await calls(bot, 'files', 'write_file')).permit, 'still there')
    assert.equal((await revoke(await signIn('fred'), first)).value.state, 'revoked')
    assert.equal((await calls(bot, 'files', 'write_file')).refused, 'no_rule')

    const second = await granted()
    const withdraw = (who: LiveSession) => ask<RequestRow>(who, 'POST', `/v1/requests/${second}/withdraw`, {})
    assert.equal((await withdraw(await signIn('fred'))).code, 'approval_refused')
    assert.equal((await withdraw(await signIn('carla'))).code, 'not_found')
    assert.equal((await withdraw(bot)).value.state, 'withdrawn')
    assert.equal((await calls(bot, 'files', 'write_file')).refused, 'no_rule')
  })
})

describe('one exact call', () => {
  test('rule 12: the approver is shown the call, says yes to that, and it runs once', async (t) => {
    const { signIn, client, calls, show, list, decide } = await openRequestHouse(t)
    const claude = await client('boris', 'claude')
    const { refused, parked } = await calls(claude, 'files', 'delete_file', { path: '/tmp/x', token: 'ghp_0123456789abcdefghijklmnopqrstuvwxyz' })
    assert.equal(refused, 'approval_required')
    const fred = await signIn('fred')
    assert.deepEqual(await list(fred, '?mine=to_decide'), [parked!.request])
    const { value } = await show(fred, parked!.request)
    assert.equal(value.summary, 'tools/call delete_file')
    assert.deepEqual(value.chain, ['boris', 'boris/claude'])
    assert.deepEqual([value.call?.operation, value.call?.effects, value.call?.rules], ['tools/call', ['destroy'], ['role reporter, ask rule 1']])
    assert.match(value.shown[0]!.text, /"path": "\/tmp\/x"/)
    assert.ok(!JSON.stringify(value).includes('ghp_0123'), 'rule 5: what looks like a secret is masked')
    assert.equal((await decide(fred, value)).value.state, 'approved')
    const args = { path: '/tmp/x', token: 'ghp_0123456789abcdefghijklmnopqrstuvwxyz' }
    assert.equal((await calls(claude, 'files', 'delete_file', { ...args, path: '/tmp/y' })).refused, 'approval_required', 'another argument')
    assert.ok((await calls(claude, 'files', 'delete_file', args)).permit)
    assert.equal((await calls(claude, 'files', 'delete_file', args)).refused, 'approval_required', 'a second time is another question')
  })

  test('what the session did before is shown as far as who looks may see it, and that he looked is recorded', async (t) => {
    const { ask, signIn, calls, show, clock, dana } = await openRequestHouse(t, { record: 'real' })
    const bot = await signIn('bot', { factorGiven: false })
    await calls(bot, 'files', 'read_file')
    await calls(bot, 'mail', 'send_mail')
    await calls(bot, 'files', 'write_file')
    clock.advance(1000)
    const { parked } = await calls(bot, 'files', 'delete_file', { path: '/tmp/x' })
    const before = async (who: string) => (await show(await signIn(who), parked!.request)).value.before
    const of = await before('fred')
    assert.deepEqual(
      [of?.of, of?.actions.map(({ action, resource, verdict, outcome }) => `${verdict} ${action} ${resource} ${outcome}`)],
      ['resource', ['deny tools/call write_file mcp/files undefined', 'allow tools/call read_file mcp/files ok']],
      'rule 8: nothing of other servers',
    )
    const all = await before('gina')
    assert.deepEqual([all?.of, all?.actions.length], ['session', 3])
    assert.equal(await before('boris'), undefined, 'the record is not for him')
    assert.equal(await before('hal'), undefined, 'he sees the request, and does not decide about it')
    const { records } = (await ask<AuditPage>(dana, 'GET', '/v1/audit?type=audit.read')).value
    assert.deepEqual(
      records.map(({ actor }) => actor),
      ['dana', 'gina', 'fred'],
    )
  })
})

describe('who sees and who decides', () => {
  test('rule 12: the whole matrix through the API', async (t) => {
    const { signIn, client, asks, show, list, decide, dana } = await openRequestHouse(t)
    const who = {
      dana,
      boris: await signIn('boris'),
      carla: await signIn('carla'),
      erik: await signIn('erik'),
      fred: await signIn('fred'),
      gina: await signIn('gina'),
      hal: await signIn('hal'),
      bot: await signIn('bot', { factorGiven: false }),
      ci: await signIn('ci', { factorGiven: false }),
      'erik-bot': await signIn('erik-bot', { factorGiven: false }),
      'boris/claude': await client('boris', 'claude'),
      'boris/cursor': await client('boris', 'cursor'),
      'erik/claude': await client('erik', 'claude'),
      'fred/claude': await client('fred', 'claude'),
    }
    type Name = keyof typeof who
    const NO = 'approval_refused'
    const GONE = 'not_found'
    const YES = 200
    /** An agent of a person cannot give the factor, whatever it asks for. */
    const FACTOR = 'factor_required'
    const HALF = { gina: NO, hal: NO, dana: NO, carla: GONE, ci: NO, 'fred/claude': FACTOR } as const
    const matrix: Readonly<Partial<Record<Name, Readonly<Partial<Record<Name, typeof YES | typeof NO | typeof GONE | typeof FACTOR>>>>>> = {
      boris: { boris: NO, bot: GONE, 'boris/claude': FACTOR, 'erik-bot': GONE, 'erik/claude': FACTOR, ...HALF, erik: YES },
      'boris/claude': { boris: NO, bot: GONE, 'boris/claude': FACTOR, 'boris/cursor': FACTOR, 'erik-bot': GONE, ...HALF, fred: YES },
      bot: { boris: NO, bot: NO, 'boris/claude': FACTOR, 'erik-bot': GONE, 'erik/claude': FACTOR, ...HALF, fred: YES },
      erik: { erik: NO, 'erik-bot': GONE, 'erik/claude': FACTOR, boris: GONE, ...HALF, fred: YES },
      'erik-bot': { erik: NO, 'erik-bot': NO, 'erik/claude': FACTOR, boris: GONE, ...HALF, fred: YES },
      'erik/claude': { erik: NO, 'erik-bot': GONE, 'erik/claude': FACTOR, boris: GONE, ...HALF, fred: YES },
    }
    /** Beside those of the matrix who get `factor_required` before anybody looks: an asker sees his own. */
    const sees = (asker: Name, name: Name, answer: unknown) => (answer === FACTOR ? asker === name : answer !== GONE)
    for (const [asker, answers] of Object.entries(matrix)) {
      const asked = await asks(who[asker as Name])
      for (const [name, expected] of Object.entries(answers)) {
        const session = who[name as Name]
        const visible = sees(asker as Name, name as Name, expected)
        const looked = await show(session, asked.id)
        assert.equal(looked.status, visible ? 200 : 404, `${name} looks at what ${asker} asks`)
        assert.equal((await list(session)).includes(asked.id), visible, `${name} lists what ${asker} asks`)
        assert.equal((await list(session, '?mine=to_decide')).includes(asked.id), expected === YES, `${name} may decide what ${asker} asks`)
        if (!visible) assert.deepEqual(looked, await show(session, NOBODY))
        const { status, code } = await decide(session, asked)
        assert.equal(code ?? status, expected, `${name} decides what ${asker} asks`)
      }
    }
  })

  test('rule 12: who issued the credential that asks does not say yes to it; from another session of the same agent he may', async (t) => {
    const { signIn, asks, decide } = await openRequestHouse(t)
    const fred = await signIn('fred')
    const issued = await signIn('bot', { factorGiven: false, issuerId: fred.principal.identityId })
    const asked = await asks(issued)
    assert.equal((await decide(fred, asked)).code, 'approval_refused')
    assert.equal((await decide(await signIn('erik'), asked)).code ?? 'ok', 'ok')
    assert.equal((await decide(fred, await asks(await signIn('bot', { factorGiven: false })))).status, 200)
  })

  test('rule 12: the person behind the agent confirms what says `owner`, and nobody else decides it', async (t) => {
    const { signIn, client, calls, show, decide, records } = await openRequestHouse(t)
    const claude = await client('boris', 'claude')
    const { parked } = await calls(claude, 'mail', 'confirm_mail')
    const boris = await signIn('boris')
    const { value } = await show(boris, parked!.request)
    assert.deepEqual(value.standing, { own: true, confirms: true })
    for (const name of ['dana', 'hal']) assert.equal((await decide(await signIn(name), value)).code, 'approval_refused')
    assert.equal((await decide(await signIn('fred'), value)).code, 'not_found')
    assert.equal((await decide(await signIn('boris', { factorGiven: false }), value)).code, 'factor_required')
    assert.equal((await decide(claude, value)).code, 'factor_required')
    assert.equal((await decide(boris, value)).status, 200)
    assert.equal(records.findLast(({ type }) => type === 'request.decided')?.data?.confirmation, true)
    assert.ok((await calls(claude, 'mail', 'confirm_mail')).permit)
  })

  test('rule 12: a certificate alone decides nothing, and a bearer token is not even heard', async (t) => {
    const { signIn, asks, decide, show, records } = await openRequestHouse(t)
    const asked = await asks(await signIn('bot', { factorGiven: false }))
    const stolen = await signIn('erik', { factorGiven: false })
    assert.equal((await decide(stolen, asked)).code, 'factor_required')
    assert.equal(records.at(-1)?.decision?.reason, 'factor_required')
    assert.equal((await decide(await signIn('erik', { proof: 'bearer' }), asked)).code, 'unauthenticated')
    assert.equal((await show(await signIn('erik'), asked.id)).value.state, 'pending')
  })

  test('rule 8: an id or a link that went astray says nothing: every answer is the one for what does not exist', async (t) => {
    const { ask, asks, signIn } = await openRequestHouse(t)
    const { id, seen } = await asks(await signIn('bot', { factorGiven: false }))
    const carla = await signIn('carla')
    for (const [method, path, body] of [
      ['GET', '', undefined],
      ['POST', '/decide', { verdict: 'approve', seen }],
      ['POST', '/decide', { verdict: 'deny', seen, reason: 'x' }],
      ['POST', '/withdraw', {}],
      ['POST', '/revoke', { reason: 'x' }],
      ['POST', '/review', { note: 'x' }],
    ] as const) {
      const answer = await ask(carla, method, `/v1/requests/${id}${path}`, body)
      assert.equal(answer.status, 404)
      assert.deepEqual(answer, await ask(carla, method, `/v1/requests/${NOBODY}${path}`, body), path)
      assert.equal((await ask(undefined, method, `/v1/requests/${id}${path}`, body)).status, 401)
    }
  })

  test('who is asked for a role reads what it says', async (t) => {
    const { ask, asks, signIn } = await openRequestHouse(t)
    const asked = await asks(await signIn('bot', { factorGiven: false }))
    const { value } = await ask<{ shown: { title: string; text: string }[] }>(await signIn('erik'), 'GET', `/v1/requests/${asked.id}`)
    assert.equal(value.shown[0]?.title, 'What role writer says')
    assert.match(value.shown[0]!.text, /^allow:\n {2}- mcp: files\n {4}tools:/)
  })

  test('what is decided is what was shown (peers R47); one no ends it; a decision is not made twice', async (t) => {
    const { ask, asks, signIn, decide } = await openRequestHouse(t)
    const bot = await signIn('bot', { factorGiven: false })
    const asked = await asks(bot)
    const erik = await signIn('erik')
    assert.equal((await decide(erik, { id: asked.id, seen: '0'.repeat(64) })).code, 'conflict')
    assert.equal((await decide(erik, { id: asked.id, seen: 'short' })).code, 'usage')
    assert.equal((await ask(erik, 'POST', `/v1/requests/${asked.id}/decide`, { verdict: 'approve' })).code, 'usage')
    assert.equal((await decide(erik, asked, { for: '20m' })).code, 'usage', 'never longer than was asked for')
    const denied = await decide(erik, asked, { verdict: 'deny', reason: 'not today' })
    assert.equal(denied.value.state, 'denied')
    assert.equal((await decide(await signIn('fred'), asked)).code, 'conflict')
  })

  test('of two yeses at the same moment one counts', async (t) => {
    const { asks, signIn, decide } = await openRequestHouse(t)
    const asked = await asks(await signIn('bot', { factorGiven: false }))
    const answers = await Promise.all([decide(await signIn('erik'), asked), decide(await signIn('fred'), asked)])
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 409])
  })

  test('lists filter, and say what they do not know', async (t) => {
    const { ask, asks, signIn, list, decide, clock } = await openRequestHouse(t)
    const bot = await signIn('bot', { factorGiven: false })
    const first = await asks(bot)
    clock.advance(1)
    const second = await asks(bot, { reason: 'another' })
    const erik = await signIn('erik')
    await decide(erik, first, { verdict: 'deny', reason: 'no' })
    assert.deepEqual(await list(bot), [second.id, first.id])
    assert.deepEqual(await list(bot, '?state=denied'), [first.id])
    assert.deepEqual(await list(bot, '?kind=call'), [])
    assert.deepEqual(await list(await signIn('boris'), '?mine=asked'), [second.id, first.id], 'what his agent asks')
    assert.deepEqual(await list(erik, '?mine=to_decide'), [second.id])
    assert.deepEqual(await list(bot, '?limit=1'), [second.id])
    for (const query of ['?state=open', '?kind=x', '?mine=all', '?limit=0'])
      assert.equal((await ask(bot, 'GET', `/v1/requests${query}`)).code, 'usage')
  })
})

describe('the event stream', () => {
  const watch = async (call: Awaited<ReturnType<typeof openRequestHouse>>['call'], who: LiveSession, last?: string) => {
    const response = await call(who, 'GET', '/v1/requests/events', undefined, last === undefined ? {} : { 'last-event-id': last })
    assert.equal(response.status, 200)
    return response.body!.pipeThrough(new TextDecoderStream()).getReader()
  }
  const eventsOf = (text: string) =>
    [...text.matchAll(/^id: (.*)\ndata: (.*)$/gm)].map(([, id, data]) => ({ id: id!, notice: JSON.parse(data!) as RequestNotice }))

  test('a snapshot first, then each change, to whoever may see it and to nobody else', async (t) => {
    const { call, asks, signIn, decide } = await openRequestHouse(t)
    const bot = await signIn('bot', { factorGiven: false })
    const first = await asks(bot)
    const herself = await signIn('carla')
    const [erik, carla] = [await watch(call, await signIn('erik')), await watch(call, herself)]
    const begin = await readUntil(erik, '"snapshot"')
    const [snapshot] = eventsOf(begin)
    assert.deepEqual(snapshot!.notice.type === 'snapshot' && snapshot!.notice.requests.map(({ id }) => id), [first.id])
    const second = await asks(bot, { reason: 'another' })
    await decide(await signIn('fred'), second)
    const [made, approved] = eventsOf(await readUntil(erik, '"type":"approved"'))
    assert.ok(made!.notice.type === 'made' && made!.notice.request.id === second.id && made!.notice.request.standing.no === undefined)
    assert.ok(approved!.notice.type === 'approved' && approved!.notice.request.decidedBy === 'fred')
    // After all that carla has an empty snapshot, and the next thing she hears is her own.
    await asks(herself, { kind: 'server', role: undefined, for: undefined, name: 'wiki', spec: { url: 'https://wiki.example/mcp' } })
    assert.deepEqual(
      eventsOf(await readUntil(carla, '"MCP server wiki"')).map(({ notice }) => (notice.type === 'snapshot' ? notice.requests : notice.request.by)),
      [[], 'carla'],
    )
    await erik.cancel()
    await carla.cancel()
    assert.equal(herself.open, 0, 'nothing is left of a stream that its reader left')
  })

  test('who comes back learns what has changed meanwhile', async (t) => {
    const { call, asks, signIn, decide, clock } = await openRequestHouse(t)
    const bot = await signIn('bot', { factorGiven: false })
    const asked = await asks(bot)
    const reader = await watch(call, bot)
    const [{ id: last } = { id: '' }] = eventsOf(await readUntil(reader, '"snapshot"'))
    await reader.cancel()
    clock.advance(1000)
    await decide(await signIn('erik'), asked, { verdict: 'deny', reason: 'no' })
    const plain = await watch(call, bot)
    assert.doesNotMatch(await readUntil(plain, '"snapshot"'), /denied/)
    await plain.cancel()
    const again = await watch(call, bot, last)
    assert.match(await readUntil(again, '"snapshot"'), /"state":"denied"/)
    await again.cancel()
  })

  test('rule 6: it ends with the session; rule 11: watchers are counted', async (t) => {
    const { call, signIn, sessions } = await openRequestHouse(t)
    const erik = await signIn('erik')
    const readers = []
    for (let i = 0; i < STREAM_LIMITS.perSession; i++) readers.push(await watch(call, erik))
    assert.equal((await call(erik, 'GET', '/v1/requests/events')).status, 429)
    assert.equal(erik.open, STREAM_LIMITS.perSession, 'what was refused leaves nothing behind')
    await sessions.end(erik.id, 'killed')
    for (const reader of readers) await readUntil(reader, 'never said')
    assert.equal(erik.open, 0)
  })

  test('rule 4: it ends when the credential does, unless that was renewed', async (t) => {
    const { call, signIn, clock } = await openRequestHouse(t)
    const reader = await watch(call, await signIn('erik', { ttlMs: 60_000 }))
    clock.advance(60_000)
    assert.doesNotMatch(await readUntil(reader, 'never said'), /never said/)
  })
})
