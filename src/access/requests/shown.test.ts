import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMasker } from '../../audit/mask.ts'
import { MOST_SHOWN_BYTES, storedOf } from './shown.ts'

test('rule 5: what an approver is shown holds no secret that Chaperone knows', () => {
  const masker = createMasker()
  masker.add(['correct horse battery'])
  const [shown] = storedOf([{ title: 'Arguments', text: '{"password":"correct horse battery"}', form: 'json' }], masker)
  assert.doesNotMatch(shown!.text, /horse/)
})

test('rule 11: all that is shown is bounded together, cut between letters, and says how long it was', () => {
  const masker = createMasker()
  const long = `x${'ä€😀'.repeat(10_000)}`
  const stored = storedOf(
    [
      { title: 'a', text: long, form: 'text' },
      { title: 'b', text: 'short', form: 'text' },
      { title: 'c', text: '', form: 'text' },
    ],
    masker,
  )
  assert.ok(stored.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0) <= MOST_SHOWN_BYTES)
  assert.ok(long.startsWith(stored[0]!.text) && stored[0]!.text.isWellFormed())
  assert.equal(stored[0]!.cut?.size, Buffer.byteLength(long))
  assert.equal(stored[2]!.cut, undefined)
})

test('rule 12: what is short is shown whole behind whatever is long', () => {
  const stored = storedOf(
    [
      { title: 'statement', text: `/* ${'x'.repeat(MOST_SHOWN_BYTES)} */ delete from accounts`, form: 'sql' },
      { title: 'writes', text: 'public.accounts', form: 'text' },
    ],
    createMasker(),
  )
  assert.ok(stored[0]!.cut)
  assert.deepEqual(stored[1], { title: 'writes', text: 'public.accounts', form: 'text' })
})

test('rule 12: nothing that could be more than a value is hidden from an approver as if it were a secret', () => {
  const masker = createMasker()
  const stored = (form: 'sql' | 'json', text: string) => storedOf([{ title: 'x', text, form }], masker)[0]!.text
  for (const sql of [
    'delete from accounts where id = 7 /*cookie:*/ or true',
    "delete from accounts where note <> '-----BEGIN PRIVATE KEY-----' or true",
    'delete from accounts where password = password',
    "delete from accounts where id = 7 /* password=' */ or true /* ' */",
    "delete from accounts where id = 7 /*password='*/or/**/true/*'*/",
  ])
    assert.throws(() => stored('sql', sql), { code: 'approval_unavailable' }, sql)
  const pem = '-----BEGIN PRIVATE KEY-----'
  for (const json of [
    `{\n  "note": "${pem}",\n  "path": "/etc/passwd"\n}`,
    '{\n  "command": "echo cookie: x; rm -rf /"\n}',
    `{\n  "command": "${pem}; reboot; ${pem.replace('BEGIN', 'END')}"\n}`,
    '{\n  "command": "password= /usr/bin/reboot"\n}',
    '{\n  "command": "password=\\"; reboot; \\""\n}',
  ])
    assert.throws(() => stored('json', json), { code: 'approval_unavailable' }, json)
  assert.equal(stored('json', '{\n  "password": "correct horse",\n  "n": 1\n}'), '{\n  "password": "[masked:password]",\n  "n": 1\n}')
  assert.equal(stored('json', '{\n  "env": "TOKEN=abcdef123"\n}'), '{\n  "env": "TOKEN=[masked:token]"\n}')
  assert.match(
    stored('json', '{\n  "body": "The password: hunter2! and Authorization: Bearer abcdefgh12345678 go"\n}'),
    /"The password: \[masked:\w+\] and .* go"/,
  )
  assert.equal(stored('sql', "alter role x password 'S3cret'"), "alter role x password '[masked:password]'")
  assert.match(stored('sql', `select '${'AKIA'}ABCDEFGHIJKLMNOP'`), /masked:aws/)
})

test('rule 12: what is exact is shown as it is, or nobody is asked', () => {
  const masker = createMasker()
  masker.add(['correct horse battery'])
  const stored = (text: string) => storedOf([{ title: 'x', text, form: 'exact' }], masker)[0]!.text
  for (const text of ["where: 'args.token ==1?true:true'", '- "echo; Cookie: a; reboot"', 'password: hunter2', 'env:\n  TOKEN:\n    secret: github'])
    assert.equal(stored(text), text)
  assert.throws(() => stored('password: correct horse battery'), { code: 'approval_unavailable', message: /value of a sealed secret/ })
})
