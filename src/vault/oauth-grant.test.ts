import assert from 'node:assert/strict'
import { test } from 'node:test'
import { masked } from './oauth-grant.ts'

test('a token that an authorization server made to blot out records is not masked in them', () => {
  for (const word of ['tools/call', 'sampling/createMessage', 'boris/claude-code-on-a-laptop', 'usr_01kbf3q4m5n6p7r8s9t0v1w2x3', 'x'])
    assert.deepEqual(masked({ access: word, refresh: undefined }), [], word)
  const random = 'at_9fK2mQ7xLr0pZs8vTn3w'
  assert.deepEqual(masked({ access: random, refresh: `${random}r` }), [random, `${random}r`])
})
