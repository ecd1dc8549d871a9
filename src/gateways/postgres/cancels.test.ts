import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CancelKeys } from './cancels.ts'

test('B40: a key cancels its own connection, whole, while it lasts, and with a credential for its own identity alone', () => {
  const keys = new CancelKeys()
  const cancelled: string[] = []
  const of = (name: string) => ({ identityId: `agt_${name}`, cancel: () => void cancelled.push(name) })
  const mine = keys.give(of('mine'))
  const other = keys.give(of('other'), true)
  assert.deepEqual([mine.key.secret.length, other.key.secret.length], [4, 32])
  const wrong = Buffer.from(mine.key.secret)
  wrong[3]! ^= 1
  for (const secret of [wrong, Buffer.alloc(0), mine.key.secret.subarray(0, 3), other.key.secret, Buffer.concat([mine.key.secret, mine.key.secret])])
    assert.equal(keys.find({ process: mine.key.process, secret }), undefined)
  assert.equal(keys.find(mine.key, 'agt_other'), undefined)
  keys.find(mine.key)?.cancel()
  keys.find(mine.key, 'agt_mine')?.cancel()
  assert.deepEqual(cancelled, ['mine', 'mine'])
  mine.forget()
  assert.equal(keys.find(mine.key), undefined)
})
