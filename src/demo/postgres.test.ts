import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import pg from 'pg'
import type { ChaperoneError } from '../errors.ts'
import { startPostgres } from './postgres.ts'

async function ask(connectionString: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    return (await client.query({ text: sql, rowMode: 'array' })).rows
  } finally {
    await client.end()
  }
}

test('a real PostgreSQL starts, takes only the password, survives a power cut, and is gone after stop', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-postgres-test-'))
  t.after(() => rm(dir, { recursive: true, force: true }))

  const first = await startPostgres({ dir, settings: { max_connections: '20' } })
  t.after(() => first.kill())
  assert.deepEqual(await ask(first.superuserUrl, 'show max_connections'), [['20']])
  await ask(first.superuserUrl, 'create table kept as select 7 as n')
  await assert.rejects(ask(first.superuserUrl.replace(first.superuserPassword, 'wrong'), 'select 1'), { code: '28P01' })
  await first.kill()

  const second = await startPostgres({ dir, port: first.port })
  t.after(() => second.kill())
  assert.equal(second.superuserUrl, first.superuserUrl)
  assert.deepEqual(await ask(second.superuserUrl, 'select n from kept'), [[7]])

  await second.configure({ hba: 'host all all 127.0.0.1/32 reject\n' })
  await assert.rejects(ask(second.superuserUrl, 'select 1'), /rejects connection/)

  await assert.rejects(startPostgres({ dir: `${dir}/other`, port: second.port }), (error: ChaperoneError) => {
    assert.equal(error.code, 'unavailable_here')
    assert.match(error.message, /is taken/)
    return true
  })
  assert.deepEqual(await readdir(`${dir}/other`), [])

  await second.stop()
  assert.deepEqual(await readdir(dir), ['other'])
})
