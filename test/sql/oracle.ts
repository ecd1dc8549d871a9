import { chmod, mkdir, mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { type Rig, startRig } from '../../src/gateways/postgres/rig.fixture.ts'
import { chosenBinaries } from '../postgres/binaries.ts'
import { type Answer, type Script, Session, type Step } from './session.ts'
import { changesBetween, type State, takeState } from './state.ts'
import { SETTINGS, UNPINNED, USERS, worldSql } from './world.ts'

/** A statement that passed as a read, and what it changed all the same. */
export interface Violation {
  readonly user: string
  readonly via: string
  readonly sql: string
  readonly changed: readonly string[]
  /** What came before it in the same session, when it does not do it alone. */
  readonly after?: readonly string[]
}

export interface Tally {
  statements: number
  passed_as_read: number
  /** Ran without an error of the server. */
  ran: number
  readonly violations: Violation[]
}

const READS = { allow: [{ postgres: 'any', databases: ['shop'], as: 'any', can: 'read' }] }
/** Fences of the session that the statement check relies on, and what they were given. */
const FENCES = { standard_conforming_strings: 'on', client_encoding: 'UTF8', row_security: 'on', role: 'none', lo_compat_privileges: 'off' }

/**
 * Runs statements through a real gateway whose only rule says `can: read`, on a real server, and holds what the server
 * looks like against what it looked like before.
 */
export class Oracle {
  readonly rig: Rig
  readonly tally: Tally = { statements: 0, passed_as_read: 0, ran: 0, violations: [] }
  readonly #scratch: string
  readonly #data: string
  #observer: pg.Client
  #bystanders: pg.Client[] = []
  #pids: number[] = []
  /** Stays connected through the gateway, so that what the gateway knows of the database is not asked for anew with every script. */
  #keeper: Session | undefined
  #kept: number[] = []
  #last: { readonly state: State; readonly script: Script } | undefined

  private constructor(rig: Rig, scratch: string, data: string, observer: pg.Client) {
    this.rig = rig
    this.#scratch = scratch
    this.#data = data
    this.#observer = observer
  }

  /** `roles`: other than "everybody reads", to see whether the oracle sees what they let through. */
  static async start(roles: readonly Record<string, unknown>[] = [READS]): Promise<Oracle> {
    const binaries = await chosenBinaries()
    // The server runs as somebody else when we are root, and has to get there.
    const scratch = await mkdtemp(join(await realpath(process.getuid?.() === 0 ? '/tmp' : tmpdir()), 'chaperone-oracle-'))
    await chmod(scratch, 0o777)
    const rig = await startRig({ roles, settings: SETTINGS, users: USERS, unpinned: UNPINNED, ...(binaries === undefined ? {} : { binaries }) })
    const here = await rig.admin.query('show data_directory')
    await rig.admin.query(worldSql(scratch))
    const oracle = new Oracle(rig, scratch, here.rows[0].data_directory, rig.admin)
    await rig.admin.query('vacuum (freeze)')
    await rig.admin.end()
    await oracle.#asTemplate()
    await oracle.#open()
    return oracle
  }

  /** A client around the gateway, as superuser. */
  get observer(): pg.Client {
    return this.#observer
  }

  /** Runs it; a change that the session left behind is followed to the statement that made it. */
  async run(script: Script): Promise<void> {
    const before = await this.#state()
    // What the server did late (it reads its settings anew when it comes to it) was the script before.
    if (this.#last) {
      const late = await changesBetween(this.#observer, this.#last.state, before)
      if (late.length > 0) this.#together(this.#last.script, late)
      const looked = this.#last.state.wal !== before.wal
      this.#last = undefined
      // Looking into the WAL writes into it: what was taken before the look is not how things stand now.
      if (late.length > 0 || looked) return await this.run(script)
    }
    const answers = await this.#play(script)
    const after = await this.#state()
    const changed = await changesBetween(this.#observer, before, after)
    this.tally.statements += script.steps.length
    const passed = answers.filter(({ status }) => status === 'ok' || status === 'error').length
    this.tally.passed_as_read += passed
    this.tally.ran += answers.filter(({ status }) => status === 'ok').length
    this.rig.records.length = 0
    this.rig.events.length = 0
    this.rig.connections.length = 0
    const silent = answers.findIndex(({ status }) => status === 'silent')
    if (silent >= 0) this.#found(script, script.steps[silent]!, ['no answer came'])
    const faults = this.rig.faults.splice(0)
    if (faults.length > 0)
      this.#found(script, script.steps[answers.findIndex(({ status }) => status === 'lost')] ?? script.steps[0]!, faults.map(String))
    if (changed.length === 0) {
      if (after.wal === before.wal) this.#last = { state: after, script }
      return
    }
    const known = this.tally.violations.length
    await this.reset()
    await this.#follow(script)
    if (this.tally.violations.length === known) this.#together(script, changed)
    await this.reset()
  }

  /** The same again, looked at after every statement. */
  async #follow(script: Script): Promise<void> {
    const session = await Session.open(this.rig, script.user)
    let before = await this.#state()
    try {
      for (const [i, step] of script.steps.entries()) {
        const answer = await session.send(this.#filled(step))
        const now = await this.#state()
        const changed = await changesBetween(this.#observer, before, now)
        before = changed.length === 0 ? now : await this.#state()
        if (changed.length === 0) continue
        const prior = script.steps.slice(Math.max(0, i - 12), i).map(({ sql }) => sql)
        this.tally.violations.push({
          user: script.user,
          via: `${step.via} ${answer.status} ${answer.message ?? ''}`.trim(),
          sql: step.sql,
          changed,
          after: prior,
        })
      }
    } finally {
      await this.#close(session)
    }
  }

  async #play(script: Script): Promise<Answer[]> {
    const session = await Session.open(this.rig, script.user)
    const answers: Answer[] = []
    const steps = script.steps.map((step) => this.#filled(step))
    const held: Step[] = []
    for (const step of steps) {
      held.push(step)
      if (script.pipelined && held.length < 8) continue
      const more = held.length > 1 ? await session.sendAll(held) : [await session.send(held[0]!)]
      held.length = 0
      answers.push(...more)
      if (more.some(({ status }) => status === 'lost' || status === 'silent')) break
    }
    const last = answers.at(-1)?.status
    if (last !== 'lost' && last !== 'silent') await this.#checkFences(script, session)
    await this.#close(session)
    return answers
  }

  async #checkFences(script: Script, session: Session): Promise<void> {
    // Locks that hold others up go with the rollback, so they are looked for before it.
    const strong = await this.#locksOf(
      script.user,
      "mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') and locktype not in ('transactionid', 'virtualxid')",
    )
    await session.send({ sql: 'rollback', via: 'simple' })
    const fences: Record<string, string> = { ...FENCES, session_authorization: script.user }
    if (!UNPINNED.includes(script.user)) fences.default_transaction_read_only = 'on'
    const moved: string[] = []
    for (const [name, value] of Object.entries(fences)) {
      const now = await session.show(name)
      if (now !== value) moved.push(`${name}: ${value} -> ${now}`)
    }
    if (strong !== '') moved.push(`locks: ${strong}`)
    const held = await this.#locksOf(script.user, "locktype <> 'virtualxid'")
    if (held !== '') moved.push(`locks held after the rollback: ${held}`)
    if (moved.length > 0) this.#together(script, moved)
  }

  async #locksOf(user: string, which: string): Promise<string> {
    const { rows } = await this.#observer.query(
      `select string_agg(distinct locktype || ' ' || mode, ', ') as held from pg_locks join pg_stat_activity using (pid)
       where usename = $1 and application_name <> 'bystander' and pid <> all ($2) and ${which}`,
      [user, this.#kept],
    )
    return rows[0].held ?? ''
  }

  /** Ends it, and waits until the server has ended it too: what it had open is rolled back then. */
  async #close(session: Session): Promise<void> {
    session.end()
    for (let i = 0; i < 2000; i++) {
      const { rows } = await this.#observer.query(
        "select count(*) from pg_stat_activity where usename = any ($1) and application_name <> 'bystander' and backend_type = 'client backend' and pid <> all ($2)",
        [USERS, this.#kept],
      )
      if (rows[0].count === '0') return
      await new Promise((done) => setTimeout(done, 2))
    }
  }

  #found(script: Script, step: Step, changed: readonly string[]): void {
    this.tally.violations.push({ user: script.user, via: step.via, sql: step.sql, changed })
  }

  /** Which of its statements did it could not be found out. */
  #together({ user, steps }: Script, changed: readonly string[]): void {
    this.tally.violations.push({ user, via: 'together', sql: steps.map(({ sql }) => sql).join('\n;; '), changed })
  }

  #filled({ sql, via }: Step): Step {
    return { via, sql: sql.replaceAll(':pid', String(this.#pids[0])).replaceAll(':scratch', this.#scratch) }
  }

  #state(): Promise<State> {
    return takeState(this.#observer, this.#scratch, this.#data)
  }

  /** The world as it was in the beginning. */
  async reset(): Promise<void> {
    this.#last = undefined
    await this.#shut()
    const client = await this.#client('postgres')
    for (const user of USERS) await client.query(`alter role ${user} reset work_mem`)
    await client.query('alter system reset all')
    await client.query('select pg_reload_conf()')
    await client.query('drop database if exists shop with (force)')
    await client.query('create database shop template world strategy file_copy')
    await client.end()
    await rm(this.#scratch, { recursive: true, force: true, maxRetries: 10 })
    await mkdir(this.#scratch)
    await chmod(this.#scratch, 0o777)
    await this.#open()
  }

  async #asTemplate(): Promise<void> {
    const client = await this.#client('postgres')
    await client.query('create database world template shop strategy file_copy')
    await client.end()
  }

  async #open(): Promise<void> {
    this.#observer = await this.#client('shop')
    await this.#observer.query('set search_path to pg_catalog')
    this.#bystanders = await Promise.all([this.#client('shop', 'bystander'), this.#client('shop', 'bystander')])
    // One that does something, so that a cancel shows.
    this.#pids = []
    for (const bystander of this.#bystanders) this.#pids.push((await bystander.query('select pg_backend_pid() as pid')).rows[0].pid)
    await this.#bystanders[0]!.query('set role plain')
    this.#bystanders[0]!.query('select pg_sleep(1000000)').catch(() => {})
    this.#keeper = await Session.open(this.rig, 'reader')
    const { rows } = await this.#observer.query("select pid from pg_stat_activity where usename = 'reader'")
    this.#kept = rows.map(({ pid }) => pid)
  }

  async #shut(): Promise<void> {
    this.#keeper?.end()
    for (const client of this.#bystanders) client.connection?.stream.destroy()
    for (const { gid } of (await this.#observer.query('select gid from pg_prepared_xacts')).rows)
      await this.#observer.query(`rollback prepared '${gid}'`)
    await this.#observer.query('select pg_drop_replication_slot(slot_name) from pg_replication_slots')
    await this.#observer.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'bystander'")
    await this.#observer.end()
  }

  async #client(database: string, name = 'observer'): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.rig.postgres.superuserUrl.replace(/\/postgres$/, `/${database}`), application_name: name })
    client.on('error', () => {})
    await client.connect()
    return client
  }

  async stop(): Promise<void> {
    await this.#shut()
    await this.rig.stop()
    await rm(this.#scratch, { recursive: true, force: true, maxRetries: 10 })
  }
}
