import assert from 'node:assert/strict'
import { test } from 'node:test'
import { kept, sessionOver } from './end-reasons.ts'

const told = (row: string | null) => sessionOver(row).message

test('what ended because its delegation did is told so, and not by whom; of a copied credential nobody is told anything', () => {
  assert.equal(told(kept('revoked', { id: 'usr_1', name: 'boris' })), 'The delegation by which it acted was revoked.')
  assert.match(told(kept('unbound')), /signed out/)
  for (const row of [kept('copied'), kept('killed', { id: 'usr_1', name: 'dana' }), null]) assert.equal(told(row), 'The session is over.')
})
