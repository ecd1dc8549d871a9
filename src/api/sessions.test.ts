import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { LiveSession } from '../identity/types.ts'
import type { SessionDetail, SessionNotice, SessionRow } from './contract.ts'
import { csr, openHouse } from './house.fixture.ts'
import { STREAM_LIMITS } from './stream.ts'

const WORLD = `
kind: mcp
name: files
spec: { command: [server] }
---
kind: role
name: developer
spec: { sessions: { idle: 15m, concurrent: 9 }, allow: [{ mcp: files, tools: any }] }
---
kind: user
name: boris
spec: { roles: [developer] }
---
kind: agent
name: boris-ai
spec: { owner: boris, roles: [developer] }
---
kind: user
name: eve
spec: {}
`

async function house(t: TestContext, options: Parameters<typeof openHouse>[1] = {}) {
  const open = await openHouse(t, options)
  const dana = await open.signIn('dana')
  const applied = await open.ask(dana, 'POST', '/v1/apply', { files: [{ path: 'world.yaml', text: WORLD }] })
  assert.equal(applied.status, 200, JSON.stringify(applied.value))
  return {
    ...open,
    dana,
    boris: await open.signIn('boris'),
    agent: await open.signIn('boris-ai', { purpose: 'count the rows' }),
    eve: await open.signIn('eve'),
  }
}

test('a session is shown with who acts for whom, what hangs on it, and what it may', async (t) => {
  const { ask, boris, agent, eve, dana, records } = await house(t)
  const { value: client } = await ask<{ session: string }>(boris, 'POST', '/v1/clients', { client: 'cursor', csr: csr(), purpose: 'fix the tests' })
  const connection = agent.connect('postgres', { credentialId: agent.principal.credentialId })
  const show = async (as: LiveSession, id: string) => (await ask<SessionDetail>(as, 'GET', `/v1/sessions/${id}`)).value
  const mine = await show(boris, client.session)
  assert.deepEqual([mine.identity, mine.chain, mine.purpose, mine.client], ['boris/cursor', ['boris', 'boris/cursor'], 'fix the tests', 'cursor'])
  assert.deepEqual(mine.limits, { concurrent: 9, idleMs: 900_000 })
  const his = await show(dana, agent.id.slice(-8))
  assert.equal(his.purpose, 'count the rows')
  assert.deepEqual(his.open, [{ id: connection.id, protocol: 'postgres', since: connection.since, credential: agent.principal.credentialId }])
  assert.equal(records.findLast(({ type }) => type === 'audit.read')?.data?.session, agent.id, 'who looks leaves a record')
  assert.equal((await ask(eve, 'GET', `/v1/sessions/${agent.id}`)).code, 'no_rule')
  assert.equal((await ask(eve, 'GET', '/v1/sessions/ses_nothing')).code, 'no_rule', 'rule 8: the same for what is not there')
})

test('an agent neither sees nor ends the session of its person; the person those of his agents', async (t) => {
  const { ask, boris, agent, eve } = await house(t)
  const ids = async (as: LiveSession, more = '') =>
    (await ask<{ sessions: SessionRow[] }>(as, 'GET', `/v1/sessions${more}`)).value.sessions.map(({ id }) => id).sort()
  assert.deepEqual(await ids(boris), [boris.id, agent.id].sort())
  assert.deepEqual(await ids(boris, '?of=boris-ai'), [agent.id])
  assert.deepEqual(await ids(agent), [agent.id])
  assert.deepEqual(await ids(eve, '?of=boris'), [])
  assert.equal((await ask(agent, 'DELETE', `/v1/sessions/${boris.id}`)).code, 'no_rule')
  assert.equal((await ask(agent, 'DELETE', '/v1/sessions?of=boris')).code, 'no_rule')
  assert.equal((await ask(boris, 'DELETE', `/v1/sessions/${agent.id.slice(-12)}`)).status, 200)
  assert.throws(() => agent.assertLive(), /over/)
})

test('all sessions of an identity end at once, but not the one that says so', async (t) => {
  const { ask, boris, agent, dana, signIn } = await house(t)
  const [second, third] = [await signIn('boris'), await signIn('boris-ai')]
  const { value } = await ask<{ ended: string[] }>(boris, 'DELETE', '/v1/sessions?of=boris')
  assert.deepEqual(value.ended, [second.id])
  boris.assertLive()
  const { value: all } = await ask<{ ended: string[] }>(dana, 'DELETE', '/v1/sessions?of=boris-ai')
  assert.deepEqual([...all.ended].sort(), [agent.id, third.id].sort())
  assert.deepEqual((await ask<{ ended: string[] }>(dana, 'DELETE', '/v1/sessions?of=boris-ai')).value.ended, [])
  assert.equal((await ask(dana, 'DELETE', '/v1/sessions?of=nobody')).code, 'not_found')
  assert.equal((await ask(dana, 'DELETE', '/v1/sessions')).code, 'usage')
})

test('the end of an id is enough where it is the only one', async (t) => {
  const { ask, dana, boris } = await house(t)
  assert.equal((await ask(dana, 'GET', `/v1/sessions/${boris.id.slice(-5)}`)).code, 'usage')
  assert.equal((await ask(dana, 'GET', '/v1/sessions/%25%25%25%25%25%25%25')).code, 'not_found', 'no wildcard')
  assert.equal((await ask(dana, 'GET', `/v1/sessions/${boris.id.slice(4)}`)).status, 200)
})

test('rule 8: who may watch only his own learns no name by it; a watcher too many leaves nothing behind', async (t) => {
  const { api, ask, call, boris, eve } = await house(t)
  const [hidden, none] = [await ask(eve, 'GET', '/v1/sessions/watch?of=boris'), await ask(eve, 'GET', '/v1/sessions/watch?of=nobody')]
  assert.deepEqual([hidden.status, hidden.code, none.status, none.code], [404, 'not_found', 404, 'not_found'])
  assert.equal(hidden.value.error?.message.replace('boris', 'nobody'), none.value.error?.message)
  assert.equal((await call(boris, 'GET', '/v1/sessions/watch?of=boris-ai')).status, 200)
  for (let i = 0; i < STREAM_LIMITS.perSession; i++) assert.equal((await call(eve, 'GET', '/v1/sessions/watch')).status, 200)
  const { open } = eve as LiveSession & { readonly open: number }
  assert.equal((await call(eve, 'GET', '/v1/sessions/watch')).status, 429)
  assert.equal((eve as LiveSession & { readonly open: number }).open, open)
  api.close()
})

test('sessions are watched as they come and go, each by whom they concern, until the watcher is cut', { timeout: 30_000 }, async (t) => {
  const { call, ask, dana, boris, eve, signIn } = await house(t)
  const open = async (as: LiveSession, more = '') => {
    const response = await call(as, 'GET', `/v1/sessions/watch${more}`)
    assert.equal(response.status, 200)
    const seen: SessionNotice[] = []
    const over = (async () => {
      let text = ''
      let lastWords: string | undefined
      for await (const chunk of response.body!) {
        text += Buffer.from(chunk).toString()
        for (let at = text.indexOf('\n\n'); at >= 0; at = text.indexOf('\n\n')) {
          const data = /^data: (.*)$/m.exec(text.slice(0, at))?.[1]
          if (text.startsWith('event: over')) lastWords = JSON.parse(data!).error.code
          else if (data !== undefined && data !== '{}') seen.push(JSON.parse(data))
          text = text.slice(at + 2)
        }
      }
      return lastWords
    })()
    return { seen, over }
  }
  const [all, his, hers] = [await open(dana), await open(boris), await open(eve)]
  const agent = await signIn('boris-ai')
  await ask(dana, 'DELETE', `/v1/sessions/${agent.id}`)
  await ask(dana, 'POST', '/v1/locks', { kind: 'owner', target: 'boris', reason: 'x' })
  await ask(dana, 'DELETE', '/v1/sessions?of=eve')
  assert.equal(await hers.over, 'session_ended')
  const types = ({ seen }: typeof all, session: string) => seen.filter((one) => one.session === session).map(({ type }) => type)
  assert.deepEqual(types(all, agent.id), ['session.started', 'session.ended'])
  assert.deepEqual(types(his, agent.id), ['session.started', 'session.ended'])
  assert.deepEqual(
    hers.seen.map(({ session }) => session),
    hers.seen.map(() => eve.id),
  )
  assert.ok(all.seen.some(({ type, text }) => type === 'lock.made' && text.includes('agents of boris')))
  await ask(dana, 'DELETE', `/v1/sessions/${boris.id}`)
  assert.equal(await his.over, 'session_ended')
})
