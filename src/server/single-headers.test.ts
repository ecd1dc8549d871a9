import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assertSingle } from './single-headers.ts'

const passes = (...rawHeaders: string[]) => {
  try {
    assertSingle({ rawHeaders })
    return true
  } catch (error) {
    assert.equal((error as { code: string }).code, 'ambiguous')
    return false
  }
}

test('rule 2: of what Node would drop the second, a second one is refused, however it is written', () => {
  for (const name of ['host', 'authorization', 'content-type']) {
    assert.ok(passes(name, 'a'))
    assert.ok(!passes(name, 'a', name, 'a'))
    assert.ok(!passes(name.toUpperCase(), 'a', 'accept', 'x', name, 'b'))
  }
})

test('what may stand there several times may', () => {
  assert.ok(passes('host', 'a', 'accept', 'x', 'Accept', 'y', 'cookie', 'a=1', 'cookie', 'b=2', 'x-forwarded-for', '1', 'x-forwarded-for', '2'))
  // A value that is called like a header is none; nor is another name of the same length.
  assert.ok(passes('x-one', 'host', 'x-two', 'host', 'date', '1', 'from', '2', 'host', '3'))
})
