import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import { test } from 'node:test'
import { ROLES_WITHOUT_PROTECTION } from '../../src/demo/documents.ts'
import { runDemo } from '../../src/demo/main.ts'
import type { Step } from '../../src/demo/story.ts'

/** `npm start -- --once` shows that the steps hold. This shows that they can fail: each protection off, by what is applied and asked for. */

test('with its protections switched off, every step of the demo that shows one fails', { timeout: 180_000 }, async () => {
  let text = ''
  const out = new Writable({
    write(chunk, _encoding, done) {
      text += chunk
      done()
    },
  })
  const code = await runDemo({
    once: true,
    json: true,
    out,
    weakened: { roles: ROLES_WITHOUT_PROTECTION, ttl: '10m', lockTarget: 'boris/somebody-else', forge: false },
  })
  const steps = JSON.parse(text) as Step[]
  const failed = steps.filter((step) => !step.ok).map((step) => step.step)
  assert.equal(code, 1)
  const mustFail = [
    /asks which tools/, // the list shows everything
    /obeys the planted order/,
    /ways past a read-only tool/,
    /a tool that its list does not show/,
    /ways to write/,
    /a refusal inside a transaction/,
    /sends one UPDATE/,
    /looks at what waits/,
    /approve it themselves/,
    /sends the same again/,
    /makes a folder/,
    /sends an UPDATE/,
    /the connection that was open/,
    /connects again/,
    /live connections/,
    /new connections/,
    /flips one byte/,
  ]
  for (const pattern of mustFail)
    assert.ok(
      failed.some((name) => pattern.test(name)),
      `${pattern} did not fail; failed: ${failed.join(' | ')}`,
    )
})
