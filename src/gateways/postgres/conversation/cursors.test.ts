import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { EFFECTS } from '../../../policy/types.ts'
import { describeSql } from '../describe.ts'
import { loadParser } from '../sql/parse.ts'
import { Cursors } from './cursors.ts'

before(() => loadParser())

test('FETCH runs what its cursor was declared for, and leaves behind what that leaves', () => {
  const cursors = new Cursors()
  const follow = (sql: string, isPortal = false) => {
    const { effects, opaque, loose, read } = cursors.follow(describeSql(sql)[0]!, undefined, isPortal)
    return { effects, opaque, loose, read }
  }
  const anything = { effects: EFFECTS, opaque: true, loose: true, read: [] }
  assert.deepEqual(follow('fetch c'), anything)
  follow('declare c cursor for select * from public.t')
  assert.deepEqual(follow('fetch c'), { effects: ['read'], opaque: false, loose: false, read: ['public.t'] })
  assert.deepEqual(follow('fetch c', true), anything)
  follow('declare c cursor for select app.moves_the_path()')
  assert.deepEqual(follow('fetch c'), { effects: EFFECTS, opaque: true, loose: true, read: ['public.t'] })
})
