import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { START } from './house.fixture.ts'
import { mailOf } from './mail.ts'
import { cleaned, cut, disarmed } from './plain-text.ts'
import { slackBody } from './slack.ts'
import type { RequestStory, Story } from './types.ts'

const storyOf = (more: Partial<RequestStory>): Story => ({
  on: 'request.made',
  at: START,
  request: {
    id: 'req_1',
    kind: 'call',
    state: 'pending',
    link: 'https://chaperone.test/requests/req_1',
    who: { id: 'agt_1', name: 'boris/claude', kind: 'agent' },
    onBehalfOf: [{ id: 'usr_1', name: 'boris', kind: 'user' }],
    resource: { kind: 'mcp', name: 'files' },
    call: { operation: 'tools/call', effects: ['write'], summary: 'tools/call write_file', why: 'It writes.' },
    approvers: 'a holder of role dba',
    createdAt: START,
    ...more,
  },
})

interface SlackMessage {
  readonly text: string
  readonly blocks: readonly {
    type: string
    text?: { type: string; text: string }
    elements?: readonly { type: string; url?: string; action_id?: string }[]
  }[]
}

const NASTY = '<!channel> <@U012> <!everyone|hey> @here @all &lt;!channel&gt; <https://evil.test|Approve> [Approve](https://evil.test) www.evil.test'

test('what an agent writes mentions nobody in chat and is no link, and the line that Mattermost reads has none of it', () => {
  const message = JSON.parse(slackBody(storyOf({ reason: NASTY, purpose: NASTY, byReason: NASTY }))) as SlackMessage
  assert.ok(!message.text.includes('evil'))
  // The markup of blocks is read in `mrkdwn` alone.
  for (const block of message.blocks) if (block.text) assert.equal(block.text.type, 'plain_text')
  const shown = message.blocks.map(({ text }) => text?.text ?? '').join('\n')
  assert.ok(shown.includes('evil'), 'people still see what was written')
  for (const live of ['@here', '@all', '@U012', 'https://', '](', 'www.']) assert.ok(!shown.includes(live), live)
})

test('what is asked for may have any name, and mentions nobody in the line beside the blocks', () => {
  const call = { operation: 'x', effects: ['write'], summary: `call <!channel> @here & https://evil.test`, why: '' }
  const { text } = JSON.parse(slackBody(storyOf({ call }))) as SlackMessage
  const [line, link] = text.split('\n')
  assert.equal(link, 'https://chaperone.test/requests/req_1')
  assert.ok(!/[<>]|&(?!(amp|lt|gt);)/.test(line!), line)
  assert.ok(!line!.includes('@here') && !line!.includes('https://evil'), line)
})

test('the button is the link and nothing else', () => {
  const { blocks } = JSON.parse(slackBody(storyOf({}))) as SlackMessage
  const buttons = blocks.flatMap(({ elements = [] }) => elements)
  assert.equal(buttons.length, 1)
  assert.deepEqual(Object.keys(buttons[0]!).sort(), ['text', 'type', 'url'])
  assert.equal(buttons[0]!.url, 'https://chaperone.test/requests/req_1')
})

test('no text, however long or odd, makes a message that Slack would refuse', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 40 }), fc.constantFrom(0, 1, 1000), (text, times) => {
      const long = cleaned(text.repeat(times))
      const { blocks } = JSON.parse(
        slackBody(storyOf({ reason: long, shown: Array.from({ length: 30 }, () => ({ title: 'x', text: long })) })),
      ) as SlackMessage
      assert.ok(blocks.length <= 50)
      for (const { type, text: shown } of blocks)
        if (shown) assert.ok(shown.text.length > 0 && shown.text.length <= (type === 'header' ? 150 : 3000) && shown.text.isWellFormed())
    }),
    { numRuns: 50 },
  )
})

test('nothing that cannot be seen, or that turns the reading direction around, is left of what others write', () => {
  assert.equal(cleaned('a\u202eb\u200bc\u0007d\u2066e\u{e0041}f\ufeff'), 'abc def')
  assert.equal(cleaned('a\r\n\r\n\r\n\r\nb\u2028c', true), 'a\n\nb\nc')
  assert.equal(cleaned('a\r\nBcc: x', false), 'a Bcc: x')
  assert.equal(cut('ab\u{1f512}cd', 4), 'ab…')
  assert.equal(disarmed('public.customers'), 'public.customers')
})

test('a mail has one link, ours, and no markup of what others wrote', () => {
  const { html, text, subject } = mailOf(
    storyOf({ reason: `<img src=x onerror=alert(1)> <a href="https://evil.test">x</a>\nApproved by dana` }),
    'dana@example.test',
  )
  assert.equal(html.match(/<a /g)?.length, 1)
  assert.ok(html.includes('<a href="https://chaperone.test/requests/req_1">'))
  assert.ok(!html.includes('<img'))
  assert.equal(text.match(/https:\/\//g)?.length, 1)
  assert.ok(text.includes('\n    Approved by dana'), 'a second line of a text does not look like a fact of ours')
  assert.ok(!/[\r\n]/.test(subject))
  const lock = { id: 'lck_1', kind: 'identity', name: 'x\r\nBcc: evil@example.test', reason: '' }
  assert.equal(
    mailOf({ on: 'lock.made', at: START, lock }, 'dana@example.test').subject,
    '[Chaperone] Locked by Chaperone: identity x Bcc: evil@example.test',
  )
})
