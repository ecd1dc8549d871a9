import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Refusal } from '../../access/types.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Decision } from '../../policy/types.ts'
import { replyTo, replyToServer } from './refuse.ts'
import { ProtocolError } from './wire.ts'

const denied: Decision = {
  verdict: 'deny',
  reason: 'denied_by_rule',
  rule: { document: 'analyst', kind: 'role', section: 'deny', index: 1, digest: 'd' },
  link: 'boris/claude-code',
  obligations: {},
  visible: true,
  message: 'The role analyst denies it.',
  hint: 'chaperone request files write_file',
}
const asked = { id: 7, method: 'tools/call', server: 'files', tool: 'write_file', serverVisible: true }

test('rule 8: a refused call says what, why, which rule, which decision, and how to ask, in words and as data (peers R74)', () => {
  const { status, message } = replyTo(new Refusal(denied, 'per_1'), asked)
  assert.equal(status, 200)
  assert.deepEqual(message, {
    jsonrpc: '2.0',
    id: 7,
    result: {
      resultType: 'complete',
      content: [
        {
          type: 'text',
          text: 'Chaperone refused the call of write_file on files: The role analyst denies it. Reason: denied_by_rule, role analyst, deny rule 2. Decision: per_1. To ask for it: chaperone request files write_file',
        },
      ],
      isError: true,
      _meta: {
        'dev.chaperone/refusal': {
          reason: 'denied_by_rule',
          rule: { document: 'analyst', kind: 'role', section: 'deny', index: 1 },
          link: 'boris/claude-code',
          decision: 'per_1',
          hint: 'chaperone request files write_file',
        },
        'dev.chaperone/origin': 'proxy',
      },
    },
  })
})

const limited: Decision = {
  ...denied,
  reason: 'rate_limited',
  rule: { document: 'dev', kind: 'role', section: 'allow', index: 0, digest: 'd' },
  message: 'tools/call read on files is over a limit: rate 60/1m per tool (boris, role dev, allow rule 1). Try again in 12 seconds.',
  retryAfter: 12,
}

test('rule 8: a call over a limit tells the model how long to wait, and is not told to give up or to ask', () => {
  const { hint, ...without } = limited
  const { status, headers, message } = replyTo(new Refusal(without, 'per_1'), asked)
  assert.equal(status, 200)
  assert.equal(headers, undefined)
  const result = message.result as { isError: boolean; content: { text: string }[]; _meta: Record<string, { retryAfter: number }> }
  assert.equal(result.isError, true)
  assert.equal(result._meta['dev.chaperone/refusal']?.retryAfter, 12)
  assert.equal(
    result.content[0]?.text,
    'Chaperone refused the call of write_file on files: tools/call read on files is over a limit: rate 60/1m per tool (boris, role dev, allow rule 1). Try again in 12 seconds. Reason: rate_limited, role dev, allow rule 1. Decision: per_1. Nothing was sent to the server. Wait as long as it says, then send the same call again.',
  )
})

test('any other method over a limit is 429 with Retry-After, as is a crowd at the door', () => {
  for (const reason of ['rate_limited', 'budget_spent', 'too_many'] as const) {
    const { status, headers, message } = replyTo(new Refusal({ ...limited, reason }, 'per_1'), { ...asked, method: 'resources/read' })
    assert.deepEqual([status, headers], [429, { 'retry-after': '12' }])
    const { data } = message.error as { data: Record<string, unknown> }
    assert.deepEqual([message.id, data.reason, data.retryAfter], [7, reason, 12])
  }
  const { status, headers } = replyTo(new ChaperoneError('too_many', 'Chaperone has as many MCP sessions open as it may.'), asked)
  assert.deepEqual([status, headers], [429, { 'retry-after': '1' }])
})

test('rule 8: any other refused method is an error with the same facts', () => {
  const { status, message } = replyTo(new Refusal(denied, 'per_1'), { ...asked, method: 'resources/read' })
  assert.equal(status, 200)
  const { code, data } = message.error as { code: number; data: Record<string, unknown> }
  assert.equal(code, 40301)
  assert.deepEqual([data.reason, data.decision, data.origin], ['denied_by_rule', 'per_1', 'proxy'])
})

test('rule 8: what may not be seen is unknown, and nothing in the answer tells it from what does not exist', () => {
  const hidden = new Refusal({ ...denied, visible: false }, 'per_1')
  assert.deepEqual(replyTo(hidden, asked), {
    status: 200,
    message: { jsonrpc: '2.0', id: 7, error: { code: -32602, message: 'Unknown tool: write_file', data: { origin: 'proxy' } } },
  })
  const server = replyTo(hidden, { ...asked, serverVisible: false })
  assert.deepEqual(server, replyTo(new ChaperoneError('not_found', 'x'), { ...asked, serverVisible: false }))
  assert.equal(server.status, 404)
  assert.doesNotMatch(JSON.stringify(server), /per_1|analyst|denied/)
})

test('what concerns the request as HTTP has its status; what came of a call travels in its answer', () => {
  const status = (error: ChaperoneError, id: number | undefined = 1) => replyTo(error, { server: 's', id, method: 'ping' }).status
  assert.equal(status(new ChaperoneError('credential_expired', 'x')), 401)
  assert.equal(status(new ChaperoneError('too_large', 'x')), 413)
  assert.equal(status(new ChaperoneError('upstream_unavailable', 'x')), 200)
  assert.equal(replyTo(new ChaperoneError('upstream_unavailable', 'x'), { server: 's' }).status, 502)
  assert.equal(status(new ProtocolError(-32020, 'x')), 400)
})

test('rule 5: neither detail nor cause of a failure reaches anybody, and a server learns nothing of identities', () => {
  const error = new ChaperoneError('upstream_unavailable', 'It cannot be reached.', { detail: 'password=hunter2', cause: new Error('hunter2') })
  assert.doesNotMatch(JSON.stringify(replyTo(error, asked)), /hunter2/)
  assert.doesNotMatch(JSON.stringify(replyToServer(1, new Refusal(denied, 'per_1'))), /boris|analyst|per_1/)
})

test('an error without a request has no id at all: MCP knows no null', () => {
  assert.equal('id' in replyTo(new ProtocolError(-32700, 'x'), { server: 's' }).message, false)
})

test('rule 8: a refusal says what may be asked for, in words and as data', () => {
  const { hint, ...rest } = denied
  const ways = [
    { role: 'images', link: 'agt_1', maxMs: 1_800_000, reason: 'required' as const },
    { role: 'images-admin', link: 'agt_1', reason: { pattern: '^OPS-' } },
  ]
  const refused = { ...rest, reason: 'no_rule' as const, ways }
  const { message } = replyTo(new Refusal(refused, 'per_1'), asked)
  const { content, _meta } = message.result as { content: { text: string }[]; _meta: Record<string, { request: unknown; how: unknown }> }
  assert.match(
    content[0]!.text,
    /You may ask for the role images \(for at most 30m, with a reason\) or the role images-admin \(with a reason\): call the tool request_access of the MCP server chaperone/,
  )
  const { request, how } = _meta['dev.chaperone/refusal']!
  assert.deepEqual(request, [
    { role: 'images', max: '30m', reason: 'required' },
    { role: 'images-admin', reason: { pattern: '^OPS-' } },
  ])
  assert.deepEqual(how, { server: 'chaperone', tool: 'request_access' })
  for (const serverVisible of [true, false])
    for (const reason of ['no_rule', 'approval_unavailable'] as const) {
      const hidden = JSON.stringify(replyTo(new Refusal({ ...refused, reason, visible: false }, 'per_1'), { ...asked, serverVisible }))
      assert.doesNotMatch(hidden, /images/, 'nothing of it for who may not see the resource')
    }
})

test('a call that waits for a human says for whom, until when, and what makes it go on', () => {
  const parked = {
    request: 'req_1',
    url: 'https://c.example/requests/req_1',
    expiresAt: Date.UTC(2026, 10, 22, 10),
    approvers: 'a holder of role dba',
  }
  const { message } = replyTo(new Refusal({ ...denied, verdict: 'ask', reason: 'approval_required' }, 'per_1', parked), asked)
  const { content, isError, _meta } = message.result as { content: { text: string }[]; isError: boolean; _meta: Record<string, unknown> }
  assert.equal(isError, true)
  assert.match(content[0]!.text, /request req_1, until 2026-11-22T10:00:00Z.*a holder of role dba.*Send the same call again, unchanged/)
  assert.deepEqual((_meta['dev.chaperone/refusal'] as Record<string, unknown>).parked, { ...parked, how: 'send the same call again, unchanged' })
})
