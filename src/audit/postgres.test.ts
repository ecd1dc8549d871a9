import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import pg from 'pg'
import { startPostgres } from '../demo/postgres.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { claimSuite } from './claim-suite.ts'
import { fill, intent, openRoom, type Place } from './fixtures.ts'
import { querySuite } from './query-suite.ts'
import { sequencerSuite } from './sequencer-suite.ts'
import { openLogForReading, verifyLog } from './verify.ts'
import { verifySuite } from './verify-suite.ts'
import { writerSuite } from './writer-suite.ts'

const dir = await mkdtemp(join(tmpdir(), 'chaperone-audit-'))
const server = await startPostgres({ dir, settings: { max_connections: '300' } }).catch(toChaperoneError)
after(async () => {
  if ('stop' in server) await server.stop()
  await rm(dir, { recursive: true, force: true })
})

async function withSuperuser<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
  if (!('stop' in server)) throw server
  const client = new pg.Client({ connectionString: server.superuserUrl })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

const place: Place = async () => {
  const name = `audit_${randomBytes(6).toString('hex')}`
  await withSuperuser((client) => client.query(`create database ${name}`))
  return { url: 'stop' in server ? server.superuserUrl.replace(/\/postgres$/, `/${name}`) : '' }
}

const options = 'stop' in server ? {} : { skip: `no PostgreSQL here: ${server.message} ${server.fix ?? ''}` }

writerSuite('PostgreSQL', place, options)
claimSuite('PostgreSQL', place, options)
sequencerSuite('PostgreSQL', place, options)
verifySuite('PostgreSQL', place, options)
querySuite('PostgreSQL', place, options)

test('rule 1: a lost connection refuses what it carried, and the next append has a new one.', { skip: options.skip ?? false }, async (t) => {
  const room = await openRoom(t, place)
  const audit = await room.open()
  await fill(audit, 3)
  const database = new URL(room.store.location).pathname.slice(1)
  const writers = `from pg_stat_activity where datname = '${database}' and application_name = 'chaperone audit'`
  await withSuperuser((client) => client.query(`select pg_terminate_backend(pid, 5000) ${writers}`))
  const outcomes: string[] = []
  while (outcomes.at(-1) !== 'stored') {
    await audit.append(intent()).then(
      () => outcomes.push('stored'),
      (error) => {
        assert.ok(error instanceof ChaperoneError && error.code === 'audit_unavailable', String(error))
        outcomes.push('refused')
      },
    )
    assert.ok(outcomes.length < 10, outcomes.join())
  }
  await audit.close()
  const log = await openLogForReading(room.location)
  const { problems, records } = await verifyLog(log)
  await log.close()
  assert.deepEqual([problems, records], [[], 4])
})

test('rule 3: a database that is set up to forget the last commits is not believed.', { skip: options.skip ?? false }, async (t) => {
  const room = await openRoom(t, place)
  const database = new URL(room.store.location).pathname.slice(1)
  await withSuperuser((client) => client.query(`alter database ${database} set synchronous_commit = off`))
  const audit = await room.open()
  // A trigger tells what the writer's own connection is set to.
  await withSuperuser(async () => {
    const client = new pg.Client({ connectionString: room.store.location })
    await client.connect()
    await client.query(`create function look() returns trigger language plpgsql as
      $$begin insert into meta values ('seen', current_setting('synchronous_commit')) on conflict do nothing; return new; end$$`)
    await client.query('create trigger look before insert on audit_leaves for each row execute function look()')
    await client.end()
  })
  await audit.append(intent())
  assert.equal((await room.store.db.selectFrom('meta').select('value').where('key', '=', 'seen').executeTakeFirstOrThrow()).value, 'on')
})
