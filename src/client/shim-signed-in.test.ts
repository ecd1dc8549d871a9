import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { describe, test } from 'node:test'
import { fakeChaperone } from '../../test/fakes/chaperone.ts'
import { type Clock, manualClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { call, INITIALIZE, json, modern, result, start } from './shim.fixture.ts'

test('without a login the client is told how to get one, and the exit code says so', async (t) => {
  let tries = 0
  const shim = await start(t, {
    connect: async () => {
      tries++
      throw new ChaperoneError('unauthenticated', 'You are not signed in.', { fix: 'Sign in with: chaperone login <invitation>' })
    },
  })
  shim.send(INITIALIZE)
  const answer = JSON.parse(await shim.next())
  assert.match(answer.error.message, /not signed in.*chaperone login/)
  shim.send(call(1))
  await shim.next()
  assert.equal(tries, 2)
  shim.input.end()
  assert.equal(await shim.exit, 4)
  assert.match(shim.said[0]!, /\[unauthenticated\]/)
})

test('rule 4: after a renewal new connections show the new certificate, and what is open goes on', async (t) => {
  const shim = await start(t)
  let open!: ServerResponse
  shim.server.answer = (seen, response) => {
    if (JSON.parse(seen.body).id === 1) open = response.writeHead(200, { 'content-type': 'text/event-stream' })
    else json(response, result(seen))
    open.write(': beat\n\n')
  }
  shim.send(call(1))
  while (shim.server.seen.length < 1) await new Promise((resolve) => setImmediate(resolve))
  await shim.keeper.renew()
  shim.send(call(2))
  assert.equal(JSON.parse(await shim.next()).id, 2)
  open.end('data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n')
  assert.equal(JSON.parse(await shim.next()).id, 1)
  assert.notEqual(shim.server.seen[0]!.certificate, shim.server.seen[1]!.certificate)
})

test('rule 8: an ended credential cuts what is in flight and says why, and the next message gets a new one', async (t) => {
  const server = await fakeChaperone()
  t.after(() => server.close())
  const keepers = [await server.keeper(), await server.keeper()]
  let next = 0
  const shim = await start(t, { connect: async () => keepers[next++]! })
  server.answer = (seen, response) => {
    if (JSON.parse(seen.body).id === 1) keepers[0]!.end(new ChaperoneError('session_ended', 'The session is over.'))
    else json(response, result(seen))
  }
  shim.send(call(1))
  assert.equal(JSON.parse(await shim.next()).error.data.code, 'session_ended')
  shim.send(call(2))
  assert.equal(JSON.parse(await shim.next()).id, 2)
  assert.equal(next, 2)
})

describe('an expired sign-in', () => {
  const expired = () => new ChaperoneError('credential_expired', 'You are no longer signed in as boris.')
  const page = () => {
    const { promise: done, resolve: yes, reject: no } = Promise.withResolvers<void>()
    return { url: 'https://gate.example/device?code=BCDF-GHJK', code: 'BCDF-GHJK', done, yes, no }
  }

  test('is renewed while the client waits: one page for all calls, and none of them fails', async (t) => {
    let signedIn = false
    const opened = page()
    const shown = Promise.withResolvers<void>()
    let pages = 0
    const shim = await start(t, {
      connect: async () => {
        if (!signedIn) throw expired()
        return shim.keeper
      },
      signIn: async () => {
        pages++
        shown.resolve()
        return opened
      },
    })
    shim.server.answer = (seen, response) => json(response, result(seen, { ok: true }))
    shim.send(modern(1, 'tools/list'), modern(2, 'tools/list'))
    await shown.promise
    signedIn = true
    opened.yes()
    const answers = [JSON.parse(await shim.next()), JSON.parse(await shim.next())]
    assert.deepEqual(answers.map(({ id }) => id).sort(), [1, 2])
    assert.ok(answers.every(({ result }) => result.ok))
    assert.equal(pages, 1)
  })

  test('takes longer than a client waits: the error says where, and the next call goes on', async (t) => {
    const manual = manualClock(1_000)
    const waits = Promise.withResolvers<void>()
    const clock: Clock = {
      ...manual,
      at(when, wake) {
        waits.resolve()
        return manual.at(when, wake)
      },
    }
    let signedIn = false
    const opened = page()
    const shim = await start(t, {
      clock,
      connect: async () => {
        if (!signedIn) throw expired()
        return shim.keeper
      },
      signIn: async () => opened,
    })
    shim.server.answer = (seen, response) => json(response, result(seen, { ok: true }))
    const capable = modern(1, 'tools/list')
    Object.assign((capable.params as { _meta: object })._meta, { 'io.modelcontextprotocol/clientCapabilities': { elicitation: { url: {} } } })
    shim.send(capable)
    await waits.promise
    manual.advance(20_000)
    const refused = JSON.parse(await shim.next())
    assert.equal(refused.error.code, -32042)
    assert.equal(refused.error.data.elicitations[0].url, opened.url)
    assert.match(refused.error.message, /BCDF-GHJK/)
    signedIn = true
    opened.yes()
    assert.deepEqual(JSON.parse(await shim.next()).params, { elicitationId: 'BCDF-GHJK' })
    shim.send(modern(2, 'tools/list'))
    assert.ok(JSON.parse(await shim.next()).result.ok)
  })

  test('is not asked for where it would mend nothing', async (t) => {
    let pages = 0
    const shim = await start(t, {
      connect: async () => {
        throw new ChaperoneError('locked', 'There is a lock on boris.')
      },
      async signIn() {
        pages++
        return page()
      },
    })
    shim.send(modern(1, 'tools/list'))
    assert.equal(JSON.parse(await shim.next()).error.data.code, 'locked')
    assert.equal(pages, 0)
  })
})
