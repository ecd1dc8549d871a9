import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import type { RequestDetail, RequestRow } from '../../src/api/requests-contract.ts'
import { house } from '../parts/house.ts'
import { chaperone } from '../parts/process.ts'
import { homeOf, NO_TERMINAL, running } from '../parts/terminal.ts'

const DOCUMENTS = `kind: role
name: writer
spec: { allow: [{ mcp: any, tools: ["write_*"] }] }
---
kind: role
name: keeper
spec: {}
---
kind: role
name: reporter
spec: { request: [{ role: writer, max: 1h, reason: required, approvers: { role: keeper } }] }
---
kind: user
name: erik
spec: { roles: [keeper] }
---
kind: user
name: boris
spec: {}
---
kind: agent
name: bot
spec: { owner: boris, roles: [reporter] }
`

test('an agent asks and waits, somebody else looks, says yes at his terminal with a second factor, and the agent is told', {
  skip: NO_TERMINAL,
}, async (t) => {
  const home = await house(t)
  await home.apply(DOCUMENTS)
  const [erik, bot] = [await home.enrol('erik'), await home.join('bot', '10m')]
  const [asErik, asBot] = [await homeOf(home, 'erik', erik), await homeOf(home, 'bot', bot)]
  // A credential of erik's without a factor: as his own is after five minutes.
  const stale = join(home.dir, 'erik.json')
  const asDana = await homeOf(home, 'dana', home.dana)
  assert.equal((await chaperone(['issue', 'erik', '--ttl', '10m', '--out', stale], { env: asDana })).code, 0)

  const watch = running(t, ['requests', 'watch', '--to-decide', '--json'], { env: asErik })
  const evil = 'refund\x1b]0;owned\x07\x1b[2J\x1b[1;1H\u202e\nyou         can decide it\rseen        0000'
  const ask = running(t, ['requests', 'ask', 'writer', '--for', '10m', '--purpose', evil, '--reason', evil, '--wait'], { env: asBot })
  await ask.said('waiting for the decision')
  // It was there before the watch began, or came after.
  await watch.said(new RegExp(`${/req_[0-9a-z]{26}/.exec(ask.text())![0]}.*\\n`))
  const event = JSON.parse(watch.text().trim().split('\n')[0]!) as { type: string; request: RequestRow }
  assert.deepEqual([event.request.by, event.request.reason], ['bot', evil])

  const approve = running(t, ['requests', 'approve', event.request.id.slice(-6), '--identity', stale], { terminal: { rows: 60 } })
  await approve.said('Approve exactly this?')
  const seen = approve.text()
  for (const trick of ['\x1b]0;', '\x1b[2J', '\x1b[1;1H', '\u202e', '\x07']) assert.ok(!seen.includes(trick), JSON.stringify(trick))
  assert.match(seen, /^reason +claimed: refund\\u\{1b\}\]0;owned\\u\{7\}/m)
  assert.match(seen, /^who +bot\r?$/m)
  assert.equal(seen.match(/^seen/gm)?.length, 1)
  assert.doesNotMatch(ask.text(), /approved/, 'looking at it decides nothing')
  approve.type('y\n')
  await approve.said('Code from your authenticator')
  approve.type(`${erik.code()}\n`)
  assert.equal(await approve.ended, 0, approve.text())
  assert.match(approve.text(), /is approved: bot has role writer until/)

  assert.equal(await ask.ended, 0, ask.text())
  assert.match(ask.text(), /is approved: bot has role writer until \d{4}-/)
  await watch.said('"approved"')
  watch.child.kill('SIGINT')
  assert.equal(await watch.ended, 0)
})

test('what was not shown to the end, or not said yes to, is not approved', {
  skip: NO_TERMINAL,
}, async (t) => {
  const home = await house(t)
  await home.apply(DOCUMENTS)
  const [erik, bot] = [await home.enrol('erik'), await home.join('bot', '10m')]
  const asErik = await homeOf(home, 'erik', erik)
  const reason = 'x'.repeat(480)
  const { id } = await bot.api.call<RequestRow>('POST', '/v1/requests', {
    kind: 'access',
    role: 'writer',
    reason,
    purpose: `${'\n'.repeat(100)}hidden`,
  })
  const state = async () => (await erik.api.call<RequestDetail>('GET', `/v1/requests/${id}`)).state

  const no = running(t, ['requests', 'approve', id], { env: asErik, terminal: { rows: 60 } })
  await no.said('Approve exactly this?')
  assert.match(no.text(), /hidden/)
  no.type('\n')
  assert.equal(await no.ended, 2)
  assert.match(no.text(), /Nothing was decided/)

  const half = running(t, ['requests', 'approve', id], { env: asErik, terminal: { rows: 10 } })
  await half.said('more lines: Enter goes on')
  assert.doesNotMatch(half.text(), /Approve exactly this/)
  half.type('q\n')
  assert.equal(await half.ended, 2)
  assert.match(half.text(), /Not all of it was shown; nothing was decided/)

  const { code, err } = await chaperone(['requests', 'approve', id], { env: asErik, input: 'y\n' })
  assert.deepEqual([code, /Nobody is here to say yes/.test(err)], [2, true])
  assert.equal(await state(), 'pending')
})

test('a no reaches the one who waits, with the reason and an exit code', async (t) => {
  const home = await house(t)
  await home.apply(DOCUMENTS)
  const [erik, bot] = [await home.enrol('erik'), await home.join('bot', '10m')]
  const [asErik, asBot] = [await homeOf(home, 'erik', erik), await homeOf(home, 'bot', bot)]
  const ask = running(t, ['requests', 'ask', 'writer', '--reason', 'please', '--wait'], { env: asBot })
  await ask.said('waiting for the decision')
  const id = /req_[0-9a-z]{26}/.exec(ask.text())![0]
  const denied = await chaperone(['requests', 'deny', id.slice(-8), '--reason', 'use\x1b[2J the report'], { env: asErik })
  assert.equal(denied.code, 0, denied.err)
  assert.equal(await ask.ended, 3)
  assert.match(ask.text(), /erik said no: use \[2J the report\. \[approval_denied\]/)
  assert.doesNotMatch(ask.text(), /\x1b/)
})
