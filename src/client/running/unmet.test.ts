import assert from 'node:assert/strict'
import { test } from 'node:test'
import { unmet } from './unmet.ts'

const SEEN = { roles: ['developer'], servers: ['files'], databases: [{ resource: 'orders', database: 'shop' }] }

test('a role that one does not have, and a database that one may not see, are named with what there is instead', () => {
  assert.deepEqual(unmet({ limits: { roles: ['nosuch', 'developer'] }, databases: [{ resource: 'orders', database: 'other' }] }, SEEN), [
    { text: 'you do not have the role nosuch, so nothing comes of it', fix: 'Yours: developer.' },
    { text: 'there is no database orders/other that it may see', fix: 'Those that there are, and their resources: chaperone db ls' },
  ])
})

test('what is there is not missing, whichever user the database is opened as', () => {
  assert.deepEqual(unmet({ limits: { roles: ['developer'] }, databases: [{ resource: 'orders', database: 'shop', user: 'reader' }] }, SEEN), [])
  assert.deepEqual(unmet({}, SEEN), [])
})

test('a pattern that fits nothing is named; one that fits something, or Chaperone itself, is not', () => {
  const tools = ['files/read_*', 'filez/read_*', '*/list_*', 'chaperone/whoami', 'files/a/b']
  const resources = ['mcp/files', 'postgres/*', 'postgres/order', '*', 'mcp/chap*']
  const said = unmet({ limits: { tools, resources } }, SEEN).map(({ text }) => text)
  assert.deepEqual(said, ['nothing that it may see fits filez/read_*', 'nothing that it may see fits postgres/order'])
})
