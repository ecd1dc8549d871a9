import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Permit } from '../../../access/types.ts'
import { manualClock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { describeSql } from '../describe.ts'
import { loadParser } from '../sql/parse.ts'
import { FROM_CLIENT } from '../wire/codes.ts'
import { commandComplete, copyDoneMessage, errorMessage, parameterStatus, readyForQuery } from '../wire/write.ts'
import { Masking } from './masking.ts'
import { Portals } from './portals.ts'
import { itemOf, type Run } from './prepared.ts'
import { Question, statement } from './question.ts'
import { Replies } from './replies.ts'

/** A server that says what no PostgreSQL would: from there on questions and answers would be taken for each other. */

await loadParser()
const bare = (letter: string, ...body: number[]) => {
  const frame = Buffer.from([letter.charCodeAt(0), 0, 0, 0, 4 + body.length, ...body])
  return frame
}
const row = () => bare('D', 0, 1, 0, 0, 0, 1, 65)
const nothing = Buffer.alloc(0)

function start() {
  const seen = { cancels: 0, moved: 0, out: [] as string[] }
  const replies = new Replies({
    clock: manualClock(0),
    portals: new Portals(() => {}),
    settle: () => {},
    cancel: () => seen.cancels++,
    emit: (bytes) => seen.out.push(bytes.toString('latin1')),
    hears: () => true,
    pathMoved: () => seen.moved++,
  })
  return { replies, seen }
}
const run = (sql: string, cap = 0): Run => ({
  permit: {} as Permit,
  described: describeSql(sql)[0]!,
  startedAt: 0,
  rows: 0,
  bytes: 0,
  cap,
  capBytes: 0,
  cut: undefined,
  stopped: false,
  wordsCut: false,
  overtime: false,
  withdrawn: undefined,
  withheld: false,
  done: undefined,
  parameters: '',
  timeoutMs: 0,
  masks: undefined,
  status: undefined,
  sqlstate: undefined,
  transaction: 0,
  ended: undefined,
  sent: true,
})
const item = (type: number, ...runs: Run[]) => itemOf(type, nothing, { runs })

test('an answer that fits no question ends the connection', () => {
  const outOfStep = { code: 'upstream_unavailable', message: /out of step/ }
  const { query, parse, bind, sync, execute, describe } = FROM_CLIENT
  for (const [asked, said] of [
    [[], commandComplete('SELECT 1')],
    [[parse], commandComplete('SELECT 1')],
    [[bind], bare('1')],
    [[parse], bare('2')],
    [[query], bare('3')],
    [[execute], bare('n')],
    [[describe], bare('s')],
    [[parse, sync], readyForQuery('I')],
    [[query], bare('K', 0, 0, 0, 1, 0, 0, 0, 1)],
    [[query], bare('W', 0, 0, 0)],
    [[query], bare('V', 0, 0, 0, 0)],
    [[query], bare('G', 0, 0, 0)],
    [[execute], bare('G', 0, 0, 0)],
  ] as const) {
    const { replies } = start()
    for (const type of asked) replies.sent(item(type))
    assert.throws(() => replies.push(said), outOfStep, `${asked} ${said[0]}`)
  }
})

test('what the server says of its settings is heard at any time', () => {
  const { replies, seen } = start()
  replies.push(parameterStatus('search_path', 'app'))
  assert.equal(seen.moved, 1)
  assert.throws(() => replies.push(parameterStatus('standard_conforming_strings', 'off')), { code: 'not_understood' })
  assert.throws(() => start().replies.push(parameterStatus('client_encoding', 'SJIS')), { code: 'not_understood' })
})

test('a statement is stopped at its cap only where nothing else is lost by it', () => {
  const { query, execute, sync, parse } = FROM_CLIENT
  const cancels = (given: readonly (readonly [number, ...Run[]])[], transaction = false) => {
    const { replies, seen } = start()
    if (transaction) {
      replies.sent(item(query, run('begin')))
      replies.push(Buffer.concat([commandComplete('BEGIN'), readyForQuery('T')]))
    }
    for (const [type, ...runs] of given) replies.sent(item(type, ...runs))
    replies.push(Buffer.concat([row(), row(), row()]))
    return seen.cancels
  }
  const read = () => run('select 1', 1)
  assert.equal(cancels([[query, read()]]), 1)
  assert.equal(cancels([[execute, read()], [sync]]), 1)
  assert.equal(cancels([[query, read()]], true), 0)
  assert.equal(cancels([[query, read(), read()]]), 0)
  assert.equal(
    cancels([
      [query, read()],
      [query, read()],
    ]),
    0,
  )
  assert.equal(cancels([[execute, read()], [parse], [sync]]), 0)
  assert.equal(cancels([[query, run('delete from t returning id', 1)]]), 0)
  assert.equal(cancels([[query, run('with d as (delete from t returning id) select * from d', 1)]]), 0)
  assert.equal(cancels([[query, run('select app.unknown()', 1)]]), 0)
})

test('rule 6: of a statement to which nobody has a right any more no row passes, it is stopped once, and its end is not a whole result', () => {
  const { query, execute, sync } = FROM_CLIENT
  for (const [type, ...behind] of [[query], [execute, sync]] as const) {
    const { replies, seen } = start()
    const one = run('select 1')
    replies.sent(item(type, one))
    for (const more of behind) replies.sent(item(more))
    replies.push(row())
    one.withdrawn = new ChaperoneError('no_rule', 'It is over.')
    for (let i = 0; i < 3; i++) replies.push(row())
    assert.deepEqual([seen.out.length, one.rows, seen.cancels], [1, 1, 1])
    assert.throws(() => replies.push(commandComplete('SELECT 4')), { code: 'no_rule' })
  }
})

test('the words of the server are hidden to the end of a transaction in which something was hidden: a constraint may fail as late', () => {
  const masking = new Masking(() => {})
  const frame = errorMessage({ severity: 'ERROR', sqlstate: '23505', message: 'm', detail: 'Key (email)=(x) already exists.' })
  const hidden = { ...run('select 1'), masks: { guarded: true } as never }
  assert.equal(masking.words(frame, [run('select 1')]), 'keep')
  masking.note(hidden)
  const shown = masking.words(frame, [run('commit')])
  assert.ok(Buffer.isBuffer(shown) && !shown.includes('Key'))
  masking.transactionOver()
  assert.equal(masking.words(frame, [run('select 1')]), 'keep')
})

test('of the answers to a question of our own only the last words of a server go on', () => {
  const said: unknown[] = []
  const question = new Question(statement('select 1'), ({ rows, sqlstate }) => said.push(sqlstate === undefined ? rows : undefined))
  const see = (frame: Buffer) => question.see(frame[0]!, frame)
  assert.equal(see(errorMessage({ severity: 'ERROR', sqlstate: '57014', message: 'm' })), 'drop')
  assert.equal(see(errorMessage({ severity: 'FATAL', sqlstate: '57P01', message: 'm' })), 'keep')
  assert.equal(see(copyDoneMessage()), 'drop')
  question.over()
  assert.deepEqual(said, [undefined])
})
