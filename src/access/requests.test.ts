import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isOwn, mayDecide } from './requests.ts'

const chain = (...ids: string[]) => ids.map((identity) => ({ identity }))
const asked = (...ids: string[]) => ({ identityId: ids.at(-1)!, chain: chain(...ids) })

test('rule 12: nobody decides about his own request, nor do agents of one person about each other (peers R43, R44)', () => {
  assert.equal(mayDecide(asked('boris'), chain('dana')), true)
  assert.equal(mayDecide(asked('boris'), chain('boris')), false)
  assert.equal(mayDecide(asked('boris'), chain('boris', 'boris/claude')), false, 'his agent')
  assert.equal(mayDecide(asked('boris', 'boris/claude'), chain('boris', 'boris/cursor')), false, 'another agent of his')
  assert.equal(mayDecide(asked('boris', 'boris/claude'), chain('boris')), true, 'himself, for his agent: with a factor that it cannot give')
  assert.equal(mayDecide(asked('boris', 'boris/claude'), chain('dana', 'dana/claude')), true)
  assert.equal(isOwn(asked('boris', 'boris/claude'), 'boris'), true)
  assert.equal(isOwn(asked('boris'), 'boris/claude'), false)
})
