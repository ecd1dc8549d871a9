import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { ChaperoneError } from '../errors.ts'
import { newSecret, START } from './house.fixture.ts'
import { signingKey, webhookBody, webhookHeaders } from './webhook.ts'

const page = readFileSync(new URL('../../docs/notifications.md', import.meta.url), 'utf8')
const snippet = (language: string) => new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'm').exec(page)![1]!

const ID = 'dlv_01kaxxxxxxxxxxxxxxxxxxxxxx'
const BODY = webhookBody({ on: 'notifier.test', at: START })
const SECONDS = START / 1000

test('the signature is the one of Standard Webhooks, over id, time and body', () => {
  // The published example of the specification.
  const headers = webhookHeaders('msg_p5jXN8AQM9LWM0D4loKWxJek', 1614265330, '{"test": 2432232314}', [
    Buffer.from('MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'base64'),
  ])
  assert.equal(headers['webhook-signature'], 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=')
})

test('while a secret changes, both sign', () => {
  const [before, after] = [newSecret(), newSecret()]
  const headers = webhookHeaders(ID, SECONDS, BODY, [signingKey(after), signingKey(before)])
  const expected = [after, before].map((secret) => {
    const key = Buffer.from(secret.slice('whsec_'.length), 'base64')
    return `v1,${createHmac('sha256', key).update(`${ID}.${SECONDS}.${BODY}`).digest('base64')}`
  })
  assert.equal(headers['webhook-signature'], expected.join(' '))
})

test('a secret that is short, long, or no base64 signs nothing, and is not repeated in the error', () => {
  for (const secret of [
    'hunter2',
    'whsec_',
    `whsec_${Buffer.alloc(23).toString('base64')}`,
    `whsec_${Buffer.alloc(65).toString('base64')}`,
    'whsec_!!!!',
  ]) {
    assert.throws(
      () => signingKey(secret),
      (error) =>
        error instanceof ChaperoneError && error.code === 'usage' && !(error.message + error.fix).includes(secret === 'whsec_' ? 'never' : secret),
    )
  }
  assert.equal(signingKey(`whsec_${Buffer.alloc(24).toString('base64')}\n`).length, 24)
})

interface Case {
  readonly name: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  readonly now: number
  readonly says: boolean | 'refused'
}

/** In this order, to one verifier. */
function cases(secret: string): readonly Case[] {
  const headers = webhookHeaders(ID, SECONDS, BODY, [signingKey(newSecret()), signingKey(secret)])
  const good = { headers, body: BODY, now: START }
  return [
    { ...good, name: 'its first coming', says: false },
    { ...good, name: 'the same again', says: true },
    { ...good, name: 'another body', body: BODY.replace('test', 'evil'), says: 'refused' },
    { ...good, name: 'another id', headers: { ...headers, 'webhook-id': 'dlv_2' }, says: 'refused' },
    { ...good, name: 'another time', headers: { ...headers, 'webhook-timestamp': String(SECONDS + 1) }, says: 'refused' },
    { ...good, name: 'no signature', headers: { ...headers, 'webhook-signature': '' }, says: 'refused' },
    {
      ...good,
      name: 'a signature of another version',
      headers: { ...headers, 'webhook-signature': headers['webhook-signature']!.replaceAll('v1,', 'v2,') },
      says: 'refused',
    },
    { ...good, name: 'played again six minutes later', now: START + 360_000, says: 'refused' },
    { ...good, name: 'six minutes before its time', now: START - 360_000, says: 'refused' },
    { ...good, name: 'signed by somebody else', headers: webhookHeaders(ID, SECONDS, BODY, [signingKey(newSecret())]), says: 'refused' },
  ]
}

test('what the guide gives receivers in Node takes ours, and nothing that was changed, repeated or is old', async () => {
  const secret = newSecret()
  const { verifyWebhook } = (await import(`data:text/javascript,${encodeURIComponent(snippet('js'))}`)) as {
    verifyWebhook(headers: unknown, body: string, secret: string, now: number): boolean
  }
  for (const { name, headers, body, now, says } of cases(secret)) {
    if (says === 'refused') assert.throws(() => verifyWebhook(headers, body, secret, now), name)
    else assert.equal(verifyWebhook(headers, body, secret, now), says, name)
  }
})

const python = spawnSync('python3', ['-c', 'import sys; assert sys.version_info >= (3, 9)']).status === 0

test('and what it gives receivers in Python', { skip: python ? false : 'no Python 3.9 here' }, () => {
  const secret = newSecret()
  const all = cases(secret)
  const program = `${snippet('python')}
import json, sys
for case in json.load(sys.stdin):
    try:
        print(verify_webhook(case["headers"], case["body"].encode(), "${secret}", case["now"] / 1000))
    except ValueError:
        print("refused")
`
  const { stdout, stderr } = spawnSync('python3', ['-c', program], { input: JSON.stringify(all), encoding: 'utf8' })
  assert.deepEqual(
    stdout.trim().split('\n'),
    all.map(({ says }) => (says === 'refused' ? 'refused' : says ? 'True' : 'False')),
    stderr,
  )
})
