import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import pg from 'pg'
import type { Mask } from '../../src/gateways/postgres/masks/types.ts'
import { bind, execute, message, type RawClient, sync } from '../../src/gateways/postgres/raw.fixture.ts'
import { type Rig, startRig } from '../../src/gateways/postgres/rig.fixture.ts'
import { readDataRow } from '../../src/gateways/postgres/wire/server.ts'
import { parseMessage, queryMessage } from '../../src/gateways/postgres/wire/write.ts'
import { Maker } from './statements.ts'
import { fill, LENGTHEN, MASK, masksOf, PREFERS_INDEXES, SCHEMA } from './world.ts'

/**
 * The proof that nothing hidden is shown: two databases that differ in nothing but their hidden values, and statements made
 * by chance. Whatever passes must get the same bytes from both: rows, row descriptions, counts, errors, notices.
 */

let rig: Rig
const databases = ['one', 'two'] as const
const admins: pg.Client[] = []
let clients: RawClient[] = []
let runs = 0

const adminOf = async (database: string) => {
  const client = new pg.Client({ connectionString: rig.postgres.superuserUrl.replace(/\/postgres$/, `/${database}`) })
  await client.connect()
  return client
}

before(async () => {
  rig = await startRig({ roles: [roleOf(MASK)] })
  const { spec } = rig.parts.resources.find('postgres', 'prod') as unknown as { spec: { databases: string[] } }
  spec.databases.push(...databases)
  const root = await adminOf('postgres')
  await root.query('create database base')
  for (const statement of PREFERS_INDEXES.split(';')) await root.query(statement)
  const base = await adminOf('base')
  await base.query(SCHEMA)
  await base.query('grant all on all tables in schema public to writer')
  await base.end()
  for (const [i, name] of databases.entries()) {
    await root.query(`create database ${name} template base`)
    const admin = await adminOf(name)
    admins.push(admin)
    for (const statement of fill(i as 0 | 1).split(';')) if (statement.trim()) await admin.query(statement)
  }
  await root.end()
})
after(async () => {
  for (const client of clients) client.end()
  for (const admin of admins) await admin.end()
  await rig.stop()
})

function roleOf(mask: Mask) {
  return { allow: [{ postgres: 'any', databases: [...databases], as: ['writer'], can: 'any', mask }] }
}

/** Cursors and prepared statements are remembered by the connection: a new one from time to time. */
async function connect(): Promise<void> {
  for (const client of clients) client.end()
  clients = await Promise.all(databases.map((database) => rig.raw('writer', { database: `prod/${database}` })))
}

async function answer(client: RawClient): Promise<Buffer[]> {
  const frames: Buffer[] = []
  do frames.push(await client.next())
  while (frames.at(-1)![0] !== 'Z'.charCodeAt(0))
  return frames
}

const binary = (sql: string) => {
  const [head, tail] = [parseMessage('', sql), bind('', '')]
  // One result format for all columns: binary.
  const formats = Buffer.concat([tail.subarray(0, -2), Buffer.from([0, 1, 0, 1])])
  formats.writeInt32BE(formats.length - 1, 1)
  return [head, formats, message('D', Buffer.from('P\0')), execute('', 0), sync()]
}

/**
 * In a transaction that has failed nothing runs, and nobody can ask the server what a name means: who says no, Chaperone or
 * the server, is then a matter of what was asked about before.
 */
const NOTHING_RAN = Buffer.from('E C25P02 or C42501')
const isRefusal = (frame: Buffer) => frame[0] === 'E'.charCodeAt(0) && /\0C(25P02|42501)\0/.test(frame.toString('latin1'))

/** What both databases say to the statements of one transaction, which is then taken back. */
async function ask(statements: readonly string[], extended: boolean): Promise<readonly Buffer[][]> {
  return await Promise.all(
    clients.map(async (client) => {
      const said: Buffer[] = []
      client.send(queryMessage("begin; set local statement_timeout = '5s'"))
      await answer(client)
      let failed = false
      for (const sql of statements) {
        client.send(...(extended ? binary(sql) : [queryMessage(sql)]))
        const frames = await answer(client)
        said.push(...(failed ? frames.map((frame) => (isRefusal(frame) ? NOTHING_RAN : frame)) : frames))
        failed = frames.at(-1)![5] === 'E'.charCodeAt(0)
      }
      client.send(queryMessage('rollback; deallocate all'))
      await answer(client)
      return said
    }),
  )
}

/** Rows that were written and taken back take room, and not the same in both: so the tables are packed again. */
async function pack(statements: readonly string[], said: readonly Buffer[]): Promise<void> {
  const ran = said.some((frame) => frame[0] === 'C'.charCodeAt(0) || (frame[0] === 'E'.charCodeAt(0) && !frame.includes('C42501')))
  const written = statements.filter((sql) => /update |insert |delete |merge |truncate /.test(sql)).join()
  const tables = TABLES.filter((name) => new RegExp(`\\b${name}\\b`).test(written))
  if (ran && tables.length > 0) await Promise.all(admins.map((admin) => admin.query(`vacuum full ${tables.join()}`)))
}

const TABLES = ['customers', 'orders', 'people', 'payments', 'log_1', 'log_2', 'pets', 'dogs', 'watched']

const text = (frames: readonly Buffer[]) => frames.map((frame) => frame.toString('latin1').replaceAll(/[^ -~]+/g, ' ')).join('\n')

/** Decision ids are made for each refusal. */
const withoutIds = (frames: readonly Buffer[]) => frames.map((frame) => frame.toString('latin1').replaceAll(/decision (per|dec)_\w+/g, 'decision'))

/** Under these masks the same values may be shown in other words: what stands in their places is taken for the same. */
const withoutShown = (frames: readonly Buffer[]) =>
  frames.map((frame) =>
    frame[0] === 'D'.charCodeAt(0)
      ? readDataRow(frame).map((cell) => cell?.replace(/^[0-9a-f]{32}$/, 'a hash').replace(/^(\*+)[^*]{1,4}$/, '$1') ?? null)
      : withoutIds([frame])[0],
  )

const sorted = (frames: readonly unknown[]) => frames.map((frame) => JSON.stringify(frame)).sort()

async function property(runsEach: number, compared: (frames: readonly Buffer[]) => readonly unknown[], skipped: RegExp | undefined): Promise<void> {
  const seen = { statements: 0, passed: 0, withRows: 0 }
  const choices = fc.array(fc.nat(5039), { minLength: 40, maxLength: 120, size: 'max' })
  await connect()
  await fc.assert(
    fc.asyncProperty(fc.array(choices, { minLength: 1, maxLength: 2 }), fc.boolean(), async (several, extended) => {
      if (++runs % 100 === 0) await connect()
      const statements = several.map((numbers) => new Maker(numbers, runs).statement())
      if (skipped && statements.some((statement) => skipped.test(statement))) return
      const [one, two] = (await ask(statements, extended)) as [Buffer[], Buffer[]]
      // Which of two equal statements a busy machine does not finish in time says nothing.
      if ([...one, ...two].some((frame) => frame[0] === 'E'.charCodeAt(0) && frame.includes('C57014'))) return
      seen.statements += statements.length
      seen.passed += one.filter((frame) => frame[0] === 'C'.charCodeAt(0)).length
      seen.withRows += one.some((frame) => frame[0] === 'D'.charCodeAt(0)) ? 1 : 0
      assert.deepEqual(compared(two), compared(one), `${statements.join(';\n')}\n--\n${text(one)}\n--\n${text(two)}`)
      await pack(statements, one)
    }),
    { numRuns: fc.readConfigureGlobal().numRuns ?? runsEach, endOnFailure: true },
  )
  // A fence that refuses everything would pass as well.
  assert.ok(seen.passed > seen.statements / 20 && seen.withRows > 0, JSON.stringify(seen))
}

test('no statement that passes says anything that depends on a hidden value', { timeout: 1_800_000 }, () => property(100, withoutIds, undefined))

for (const form of ['hash', 'last4'] as const) {
  test(`under ${form} results differ only in the places where values are shown so`, { timeout: 1_800_000 }, async () => {
    rig.state.roles = [roleOf(masksOf(form))]
    await property(50, withoutShown, undefined)
  })
}

/** What depends on how large a table is: which of the rows comes first, and how they are read. */
const DEPENDS_ON_PLANS = /limit|explain|declare|fetch|relpages|distinct on|row_number|copy/

test('values of other lengths change nothing but plans', { timeout: 1_800_000 }, async () => {
  rig.state.roles = [roleOf(MASK)]
  for (const statement of LENGTHEN.split(';')) if (statement.trim()) await admins[1]!.query(statement)
  await property(50, (frames) => sorted(withoutIds(frames)), DEPENDS_ON_PLANS)
})
