import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Credential } from '../../src/api/contract.ts'
import { makeKeyPair } from '../../src/client/key-pair.ts'
import { findIdentity } from '../../src/identity/directory.ts'
import { apply, governed, invited } from '../parts/governed.ts'
import { ask } from '../parts/house.ts'

const PEOPLE = `
kind: user
name: boris
spec: {}
---
kind: user
name: olga
spec: {}
`

test('a person sees who acts for him, in words, and revokes it; the page of another says nothing of it and revokes nothing', async (t) => {
  const { dir, server, dana } = await governed(t)
  await apply(dana, PEOPLE)
  const boris = await invited(t, dana, 'boris', dir)
  const { csr } = makeKeyPair()
  const limits = { resources: ['mcp/files<b>'], effects: ['read'] }
  await boris.api.call<Credential>('POST', '/v1/runs', { client: 'claude-code', limits, csr })
  const [given] = (await boris.api.call<{ delegations: { id: string }[] }>('GET', '/v1/delegations')).delegations
  const { parts } = server
  const host = parts.places.web
  const visitor = async (name: string) => {
    const identity = await findIdentity(parts.store.db, { name })
    const { secret } = await parts.browsers.begin(identity!)
    const cookie = `__Host-chaperone-session=${secret}`
    const { token } = await parts.browsers.open(secret)
    const revoke = (id: string) =>
      ask(host, '/account/delegations/revoke', {
        method: 'POST',
        headers: { host, cookie, origin: `https://${host}`, 'content-type': 'application/x-www-form-urlencoded' },
        body: `token=${encodeURIComponent(token)}&id=${id}`,
      })
    return { page: () => ask(host, '/account/delegations', { headers: { host, cookie } }), revoke }
  }

  const olga = await visitor('olga')
  assert.doesNotMatch((await olga.page()).text, /claude-code/)
  assert.equal((await olga.revoke(given!.id)).status, 404)
  assert.equal((await olga.revoke('dlg_01k00000000000000000000000')).status, 404, 'and the same for one that does not exist')

  const mine = await visitor('boris')
  const shown = (await mine.page()).text
  assert.match(shown, /boris\/claude-code/)
  assert.match(shown, /<li>Only mcp\/files&lt;b&gt;\.<\/li><li>Only to read\.<\/li>/)
  const { status, headers } = await mine.revoke(given!.id)
  assert.deepEqual([status, headers.location], [303, '/account/delegations'])
  assert.match((await mine.page()).text, /Nobody does\./)
  assert.equal((await mine.revoke(given!.id)).status, 404)
})
