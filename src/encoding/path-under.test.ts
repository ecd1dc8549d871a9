import assert from 'node:assert/strict'
import { posix } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { compileUnder } from './path-under.ts'

const isUnder = (root: string, path: string) => compileUnder(root)(path) === 'under'

test('a path is under a root once both are normalised', () => {
  for (const path of [
    '/reports',
    '/reports/',
    '/reports/a',
    '//reports//a',
    '/reports/./a',
    '/x/../reports/a',
    '/../reports',
    '/reports/a/..',
    '/reports/...',
    '/reports/%2e%2e/a',
    '/reports/a\\b',
    '/reports/ a',
  ]) {
    assert.equal(isUnder('/reports', path), true, path)
  }
  for (const path of [
    '/',
    '/report',
    '/reports2',
    '/reports-old/a',
    '/reports/..',
    '/reports/../etc/passwd',
    '/reports/a/../../etc',
    '/Reports',
    '',
    'reports',
    './reports',
    '../reports',
    '~/reports',
    'file:///reports/a',
    'C:\\reports\\a',
  ]) {
    assert.equal(isUnder('/reports', path), false, path)
  }
  assert.equal(isUnder('/', '/anything'), true)
  assert.equal(isUnder('/a/../reports/', '/reports/x'), true)
})

test('what systems read differently is under no root, and known to be unknown', () => {
  const place = compileUnder('/reports')
  for (const path of ['/reports/..\\..\\etc', '/reports\\a', '/etc\\..\\reports\\a', 'a', '', '/reports/a\0', '/reports\0/../etc'])
    assert.equal(place(path), 'unknown', path)
  assert.equal(place('/etc/a\\b'), 'outside')
})

test('a root that is no absolute path is refused', () => {
  for (const root of ['', 'reports', './a', '\\a', '/a\\b', '/a\0']) assert.throws(() => compileUnder(root), { code: 'invalid_document' }, root)
})

test('without backslashes it is what node:path normalises to', () => {
  const path = fc.array(fc.constantFrom('/', 'a', 'b', '..', '.', '/..', '/a', '...'), { maxLength: 10 }).map((parts) => `/${parts.join('')}`)
  fc.assert(
    fc.property(path, path, (root, asked) => {
      const clean = (text: string) => posix.normalize(text).replace(/\/+$/, '')
      const [fence, given] = [clean(root), clean(asked)]
      assert.equal(isUnder(root, asked), given === fence || given.startsWith(`${fence}/`))
    }),
    { numRuns: 2000 },
  )
})
