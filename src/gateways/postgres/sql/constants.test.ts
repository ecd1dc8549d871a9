import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import fc from 'fast-check'
import { scanSync } from 'libpg-query'
import { spentMs } from '../../../encoding/spent.fixture.ts'
import { withoutConstants } from './constants.ts'
import { loadParser } from './parse.ts'

describe('a statement without its constants', () => {
  before(loadParser)

  it('has a mark in the place of every kind of constant, and no comments', () => {
    const text = `select /* a /* b */ c */ 'it''s', E'x\\'y', $$do$$, $t$ $$ $t$, 10, 1.5e-3, .5, x'ab', B'01', N'z', U&'d', $1, "q ""r""", e1.t2 -- d
      from t where é = 'part'
      ' two' and a$b = 0x1F`
    const { text: bare, constants } = withoutConstants(text)
    assert.equal(
      bare.replace(/\s+/g, ' ').replace('?-?', '?'),
      'select ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, $1, "q ""r""", e1.t2 from t where é = ? and a$b = ?',
    )
    assert.ok(constants.includes("E'x\\'y'"))
  })

  for (const [sql, secret] of [
    ["set x to 'hunter2'", 'hunter2'],
    ["alter role x password 'hunter2'", 'hunter2'],
    ["comment on table t is E'\\'hunter2'", 'hunter2'],
    ["notify c, 'hunter2'", 'hunter2'],
    ["do $$ begin perform f('hunter2'); end $$", 'hunter2'],
    ["execute p('hunter2')", 'hunter2'],
    ['select 1 -- hunter2', 'hunter2'],
    ["select E'a\\\\'\n'\\'hunter2'", 'hunter2'],
    ["select 'a' -- c\n -- d\n 'hunter2'", 'hunter2'],
    ["select 'never closed hunter2", 'hunter2'],
    ['select $q$never closed hunter2', 'hunter2'],
    ["select date '2026-11-22', interval '3 hunter2'", 'hunter2'],
    ['select 4111111111111111', '4111'],
    ['select -4.111e+22', '111'],
  ] as const)
    it(`keeps nothing of what is secret in ${JSON.stringify(sql)}`, () => assert.doesNotMatch(withoutConstants(sql).text, new RegExp(secret)))

  it("finds the same constants as PostgreSQL's own scanner, whatever the text", () => {
    const piece = fc.constantFrom(
      ...[
        "'a'",
        "'it''s'",
        "E'\\''",
        'x',
        '"n""m"',
        '$$q$$',
        '$a$ $$ $a$',
        '$1',
        '17',
        '1.5',
        '.5',
        "b'01'",
        "x'f'",
        "U&'a'",
        'U&"n"',
        'é',
        'e',
        'n',
      ],
      // The comma: pg_query's scanner, unlike the server's, ends a string that goes on behind a comment.
      ...['-- c\n,', '/* c */', '/* a /* b */ */', ' ', '\n', '\t', '(', ')', ',', '=', '+', '::', '.', '[', ']', 'select', 'from', 'a$b', '_x1'],
    )
    const CONSTANTS = new Set([260, 261, 262, 263, 264, 266])
    const NAMES = new Set([258])
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        const sql = pieces.join(' ').replace(/ \n /g, '\n')
        let tokens: ReturnType<typeof scanSync>['tokens']
        try {
          tokens = scanSync(sql).tokens
        } catch {
          return
        }
        const bytes = Buffer.from(sql)
        const theirs = tokens.filter(({ tokenType }) => CONSTANTS.has(tokenType)).map(({ start, end }) => bytes.toString('utf8', start, end))
        const { text, constants } = withoutConstants(sql)
        assert.deepEqual(constants, theirs)
        const names = (scanned: typeof tokens, of: Buffer) =>
          scanned.filter(({ tokenType }) => NAMES.has(tokenType)).map(({ start, end }) => of.toString('utf8', start, end))
        assert.deepEqual(names(scanSync(text.replaceAll('?', "''")).tokens, Buffer.from(text.replaceAll('?', "''"))), names(tokens, bytes))
      }),
      { numRuns: 500 },
    )
  })

  it('takes a text of a megabyte in less than a second', () => {
    const started = spentMs()
    withoutConstants(`insert into t values ${Array.from({ length: 50_000 }, (_, i) => `(${i},'secret ${i}')`).join(',')}`)
    withoutConstants(`select ${'$a'.repeat(500_000)}`)
    withoutConstants(`select ${"''\n".repeat(300_000)}`)
    withoutConstants(`select ${'/*'.repeat(500_000)}`)
    withoutConstants(`select 'a' ${'-- '.repeat(300_000)}`)
    withoutConstants(`select 'a' ${'-- \n'.repeat(250_000)}`)
    withoutConstants(`select ${'$a$ '.repeat(250_000)}`)
    assert.ok(spentMs() - started < 3000, `${spentMs() - started} ms`)
  })
})
