import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RequestDetail } from '../api/requests-contract.ts'
import { requestLines, resultText } from './requests-show.ts'

const AT = Date.UTC(2026, 10, 22, 12)

const CALL: RequestDetail = {
  id: 'req_01jd9s3m5k7k3m9q2x4w6z8y0a',
  kind: 'call',
  state: 'pending',
  summary: 'UPDATE public.orders',
  resource: 'postgres/orders',
  call: { kind: 'postgres', operation: 'update', effects: ['read', 'write'], message: 'Updates are looked at.', rules: ['role analyst, ask rule 1'] },
  by: 'boris/claude-code',
  chain: ['boris', 'boris/claude-code'],
  reason: 'order 17 was paid twice',
  purpose: 'refunds',
  session: 'ses_1',
  approvers: 'a holder of role dba',
  votes: [],
  createdAt: AT,
  updatedAt: AT,
  expiresAt: AT + 3_600_000,
  standing: { own: false, confirms: false },
  seen: 'ab'.repeat(32),
  url: 'https://chaperone.test:7444/requests/req_01jd9s3m5k7k3m9q2x4w6z8y0a',
  shown: [
    { title: 'Statement', form: 'sql', text: 'UPDATE orders\n  SET refunded = true\n  WHERE id = 17' },
    { title: 'Estimate', form: 'text', text: 'about 1 row' },
  ],
  before: {
    of: 'resource',
    more: false,
    actions: [{ id: 'rec_1', at: AT - 5_000, action: 'SELECT public.orders', resource: 'postgres/orders', verdict: 'allow', outcome: 'ok' }],
  },
}

test('an approver reads what will run, who asks, for whom, why, and what was done before', () => {
  assert.deepEqual(requestLines(CALL, { width: 80 }), [
    'req_01jd9s3m5k7k3m9q2x4w6z8y0a  pending',
    'what        UPDATE public.orders',
    'on          postgres/orders',
    'effects     read, write',
    'who         boris → boris/claude-code',
    '            boris/claude-code asks, on behalf of boris',
    'purpose     claimed: refunds',
    'reason      claimed: order 17 was paid twice',
    'asked       Updates are looked at. (role analyst, ask rule 1)',
    'since       2026-11-22 12:00:00Z',
    'holds       open until 2026-11-22 13:00:00Z',
    'approvers   a holder of role dba',
    'you         can decide it',
    'link        https://chaperone.test:7444/requests/req_01jd9s3m5k7k3m9q2x4w6z8y0a',
    `seen        ${'ab'.repeat(32)}`,
    '',
    'Statement',
    '| UPDATE orders',
    '|   SET refunded = true',
    '|   WHERE id = 17',
    '',
    'Estimate',
    '| about 1 row',
    '',
    'In this session before, on the same resource',
    '| 2026-11-22 11:59:55Z  ok         SELECT public.orders  (postgres/orders)',
  ])
})

test('SQL is shown laid out, and as it was written for who asks for that; where it is not laid out a line says why', () => {
  const part = { title: 'statement', form: 'sql', text: 'update   orders set a = 1' } as const
  const of = (more: object, asWritten = false) =>
    requestLines({ ...CALL, before: undefined, shown: [{ ...part, ...more }] } as RequestDetail, { width: 80, asWritten }).slice(-3)
  const says = 'Laid out anew, word for word the same; as it was written: --as-written of `requests show`'
  assert.deepEqual(of({ formatted: 'update orders\nset a = 1' }), ['| update orders', '| set a = 1', says])
  assert.deepEqual(of({ formatted: 'update orders\nset a = 1' }, true), ['', 'statement', '| update   orders set a = 1'])
  assert.deepEqual(of({ unformatted: 'it is too long to be laid out' }).slice(-2), [
    '| update   orders set a = 1',
    'As it was written: it is too long to be laid out.',
  ])
})

test('rule 12: an agent does not paint over what the approver reads, with whatever it writes and wherever', () => {
  const evil = '\x1b[2J\x1b]0;title\x07\x1b[1;1H\r\x9b31m\u202e\u2066\u200b\u{e0041}\nwho         dana\nyou         can decide it\n\n\nseen        00'
  const lines = requestLines(
    {
      ...CALL,
      summary: evil,
      reason: evil,
      purpose: evil,
      resource: `mcp/${evil}`,
      by: evil,
      chain: [evil, evil],
      call: { ...CALL.call!, message: evil, rules: [evil], operation: evil },
      votes: [{ by: evil, verdict: 'approve', how: evil, reason: evil, at: AT }],
      decidedBy: evil,
      outcome: evil,
      url: evil,
      shown: [{ title: evil, form: 'sql', text: `${evil}\nDROP TABLE x` }],
      before: { of: 'session', more: true, actions: [{ id: 'rec', at: AT, action: evil, resource: evil, verdict: 'deny' }] },
    },
    { width: 80 },
  )
  for (const line of lines) assert.doesNotMatch(line, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/u)
  // Only lines of our own begin with one of our words; each of them once.
  for (const word of ['who', 'you', 'seen']) assert.equal(lines.filter((line) => line.startsWith(`${word} `)).length, 1, word)
  assert.ok(lines.includes('| DROP TABLE x'))
  assert.ok(
    lines.some((line) => line.includes('\\u{1b}[2J')),
    'it is shown, not left out',
  )
})

test('a text that was cut says so, and what it was', () => {
  const lines = requestLines({ ...CALL, shown: [{ ...CALL.shown[0]!, cut: { size: 120_000, sha256: 'cd'.repeat(32) } }] }, { width: 80 })
  assert.ok(lines.includes(`!! This is not all of it: it has 120000 bytes, sha256 ${'cd'.repeat(32)}.`))
})

test('who may not decide reads why; who confirms reads that it is no approval', () => {
  const you = (standing: RequestDetail['standing']) => requestLines({ ...CALL, standing }, { width: 200 }).find((line) => line.startsWith('you'))
  assert.equal(you({ own: true, confirms: false, no: 'Nobody decides about his own request.' }), 'you         Nobody decides about his own request.')
  assert.match(you({ own: true, confirms: true })!, /recorded as a confirmation/)
})

test('what came of it stands in one line, whatever was written into it', () => {
  const access = { role: 'writer', forMs: 600_000, below: false }
  const row = { ...CALL, kind: 'access', call: undefined, summary: 'role writer on postgres/orders for 10m', access } as unknown as RequestDetail
  assert.equal(
    resultText({ ...row, state: 'approved', startsAt: AT, endsAt: AT + 600_000 }),
    `${CALL.id} is approved: boris/claude-code has role writer on postgres/orders until 2026-11-22 12:10:00Z. It holds in sessions that are open already.`,
  )
  assert.equal(resultText(CALL), `${CALL.id} waits for a holder of role dba, until 2026-11-22 13:00:00Z: UPDATE public.orders`)
  assert.equal(resultText({ ...CALL, state: 'denied', summary: 'a\x1b[2Jb\nc' }), `${CALL.id} is denied: a\\u{1b}[2Jb ⏎ c`)
})
