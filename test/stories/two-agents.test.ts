import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Credential, SessionRow } from '../../src/api/contract.ts'
import { openApi } from '../../src/client/api.ts'
import { makeKeyPair } from '../../src/client/key-pair.ts'
import { runsFolder } from '../../src/client/running/place.ts'
import { begin, CALLBACK, CLAUDE, rig as oauthRig } from '../oauth/rig.ts'
import { runningRig, start } from '../running/rig.ts'

const ASK = "curl -s -o /dev/null -w 'works %{http_code}\\n' --unix-socket $CHAPERONE_SOCKET http://x/v1/whoami"

test('two agents on one machine: the files of one are stolen and renewed elsewhere; that one is locked and stopped, the other works on', async (t) => {
  const rig = await runningRig(t)
  const begin = async (name: string) => {
    const script = `echo ready $CHAPERONE_RUN; until test -e ${name}.go; do sleep 0.05; done; ${ASK}`
    const run = start(t, ['agent', 'run', '--as', name, '--join', await rig.token(name), '--', 'sh', '-c', script], {
      home: join(rig.dir, 'nobody'),
      cwd: rig.work,
    })
    const [, id = ''] = await run.says(/ready (\S+)\n/)
    return { run, id }
  }
  const [first, second] = [await begin('first'), await begin('second')]

  // The thief reads the files, as whoever runs as the same user can, and keeps what he took alive.
  const { folder } = await runsFolder()
  const stolen = (name: string) => readFileSync(join(folder, first.id, 'svid', name), 'utf8')
  const api = openApi({
    address: rig.boris.profile.address,
    authorities: stolen('bundle.pem'),
    identity: { key: stolen('svid_key.pem'), certificate: stolen('svid.pem') },
  })
  t.after(() => api.close())
  const pair = makeKeyPair()
  const taken = await api.call<Credential>('POST', '/v1/renew', { csr: pair.csr })
  const thief = openApi({
    address: rig.boris.profile.address,
    authorities: taken.bundles.server,
    identity: { key: pair.key, certificate: taken.certificate },
  })
  t.after(() => thief.close())
  await thief.call('POST', '/v1/prove', {})
  // What the runner does at half life, here at once: the credential that it holds was renewed already, so there are two bearers.
  await assert.rejects(api.call('POST', '/v1/renew', { csr: makeKeyPair().csr }))
  await assert.rejects(thief.call('GET', '/v1/whoami'))
  assert.notEqual(await first.run.ended, 0)
  assert.match(first.run.err(), /first has ended: /)
  const { sessions } = await rig.boris.api.call<{ sessions: SessionRow[] }>('GET', '/v1/sessions?of=second')
  assert.equal(sessions.length, 1)
  await writeFile(join(rig.work, 'second.go'), '')
  assert.equal(await second.run.ended, 0, second.run.err())
  assert.match(second.run.out(), /works 200/)
})

test('two clients of one person in their browsers: the refresh token of one is stolen and used; that one is locked, the other works on', async (t) => {
  const r = await oauthRig(t)
  const browser = await r.browser('boris')
  const signIn = async (client_id: string, redirect_uri: string) => {
    const flow = begin({ client_id, redirect_uri, resource: r.resource() })
    const code = (await browser.agree(flow)).searchParams.get('code')!
    const form = { grant_type: 'authorization_code', client_id, redirect_uri, code, code_verifier: flow.verifier }
    let held = await r.token(form)
    assert.equal(held.status, 200, JSON.stringify(held))
    return {
      held: () => held,
      refresh: async () => (held = await r.token({ grant_type: 'refresh_token', client_id, refresh_token: held.refresh_token })),
      calls: async () => (await r.mcp(held.access_token)).status,
    }
  }
  const [claude, other] = [await signIn(CLAUDE, CALLBACK), await signIn('console', 'https://console.example.com/back')]
  assert.deepEqual([await claude.calls(), await other.calls()], [200, 200])

  // The thief has copied the file with Claude's refresh token, and is the first to use it. It looks like Claude, and works.
  const copied = claude.held().refresh_token
  const stolen = await r.token({ grant_type: 'refresh_token', client_id: CLAUDE, refresh_token: copied })
  assert.equal((await r.mcp(stolen.access_token)).status, 200)

  // Claude comes with the token that it still has: now there are two, and nobody can say who is who.
  assert.equal((await claude.refresh()).error, 'invalid_grant')
  assert.notEqual((await r.mcp(stolen.access_token)).status, 200, 'the thief is cut off')
  assert.equal((await r.token({ grant_type: 'refresh_token', client_id: CLAUDE, refresh_token: stolen.refresh_token })).error, 'invalid_grant')
  const locks = r.records.filter(({ type }) => type === 'lock.made').map(({ data }) => data as { kind: string; name: string })
  assert.deepEqual(
    locks.map(({ kind }) => kind),
    ['session'],
  )
  assert.match(locks[0]!.name, /boris\/claude-code/)

  // The other one notices nothing; and Claude is let in again, by its person.
  assert.equal((await other.refresh()).status, 200)
  assert.equal(await other.calls(), 200)
  assert.equal(await (await signIn(CLAUDE, CALLBACK)).calls(), 200)
})
