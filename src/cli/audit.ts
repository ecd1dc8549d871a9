import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import type { AuditPage, AuditQuery, AuditRow } from '../api/audit-contract.ts'
import type { VerifyReport } from '../audit/verify.ts'
import { ChaperoneError, REASONS } from '../errors.ts'
import { registerRule } from './audit-rule.ts'
import { registerShow } from './audit-show.ts'
import type { Register } from './commands.ts'
import { query, type ServerFlags, wholeNumber, withApi, withJson, withServer } from './connection.ts'
import { jsonText, line, list, moment, printable, printJson, styled } from './output.ts'
import { stopSignal } from './terminal.ts'
import { unread } from './unread.ts'

interface Filters extends ServerFlags {
  readonly json?: boolean
  readonly since?: string
  readonly until?: string
  readonly type?: string
  readonly text?: string
  readonly session?: string
  readonly resource?: string
  readonly verdict?: AuditQuery['verdict']
  readonly refused?: boolean
  readonly unsent?: boolean
  readonly table?: string
  readonly column?: string
  readonly database?: string
  readonly user?: string
  readonly operation?: string
  readonly effect?: string
  readonly fingerprint?: string
  readonly sqlstate?: string
  readonly transaction?: string
  readonly shadow?: string | true
  readonly actor?: string
  readonly limit?: number
}

export const register: Register = (command) => {
  withJson(withServer(command.command('tail').description('records as they are written'))).action(async (flags: Filters) => {
    const stop = stopSignal()
    process.stderr.write('Waiting for records; Ctrl-C ends it.\n')
    await withApi(flags, async (api) => {
      for await (const row of api.events<AuditRow>('/v1/audit/tail', stop)) line(flags.json ? jsonText(row) : rowText(row))
    })
  })
  search(command)
  registerShow(command)
  registerRule(command)
  verify(command)
  withJson(
    withServer(command.command('checkpoint').description('sign the record as it is now; keep the result elsewhere, for `verify --checkpoint`')),
  ).action(async (flags: Filters) => {
    const made = await withApi(flags, (api) => api.call<{ size: number; note: string }>('POST', '/v1/audit/checkpoint', {}))
    if (flags.json) printJson(made)
    else process.stdout.write(made.note)
  })
}

function search(command: Command): void {
  withJson(withServer(command.command('search').description('search the record, newest first')))
    .option('--actor <name>', 'who acted, or on whose behalf')
    .option('--type <type>', 'kind of record, for example action.refused')
    .option('--session <id>', 'what was done in this session')
    .option('--resource <name>', 'files, mcp/files, or an id')
    .option('--verdict <verdict>', 'what the rules said: allow, ask (also of what somebody then approved) or deny')
    .option('--since <time>', '2026-11-22, 2026-11-22T13:00Z, or how long ago: 30m, 7d')
    .option('--until <time>', 'the same')
    .option('--text <words>', 'found in the record, its statement or arguments')
    .option('--table <name>', 'that a statement touched: schema.table or table; also behind a view')
    .option('--column <name>', 'schema.table.column, or the end of it')
    .option('--database <name>', 'on a database server')
    .option('--user <name>', 'database user')
    .option('--operation <kind>', 'kind of statement, or method: update, tools/call')
    .option('--effect <effect>', 'read, write, destroy, admin or egress')
    .option('--fingerprint <hex>', 'of a statement: the same for all that differ in their values alone')
    .option('--sqlstate <code>', 'that it ended with, such as 42501')
    .option('--transaction <id>', 'the statements of one transaction, as `show` names it')
    .option('--shadow [verdict]', 'what rules in shadow mode would have refused or asked; with `ask` or `deny`, that alone')
    .option('--refused', 'what rules refused: the same as --verdict deny; see --unsent')
    .option('--unsent', 'allowed and then refused: what the rule demands (a mask, require_where) could not be kept, so nothing was sent')
    .option('--limit <number>', 'how many at the most', wholeNumber('--limit', 1, 10_000), 100)
    .addHelpText(
      'after',
      '\nExamples:\n  chaperone audit search --refused --since 1d\n  chaperone audit search --actor boris --table public.customers --effect write',
    )
    .action(async (flags: Filters) => {
      const asked: Omit<AuditQuery, 'limit' | 'before'> = {
        actor: flags.actor,
        type: flags.type,
        session: flags.session,
        resource: flags.resource,
        verdict: flags.verdict ?? (flags.refused ? 'deny' : undefined),
        table: flags.table,
        column: flags.column,
        database: flags.database,
        user: flags.user,
        operation: flags.operation,
        effect: flags.effect,
        fingerprint: flags.fingerprint,
        sqlstate: flags.sqlstate,
        transaction: flags.transaction,
        shadow: flags.shadow === true ? 'any' : flags.shadow,
        unsent: flags.unsent ? 'any' : undefined,
        text: flags.text,
        since: await timeOf(flags.since, '--since'),
        until: await timeOf(flags.until, '--until'),
      }
      const records = await withApi(flags, async (api) => {
        const found: AuditRow[] = []
        let next: string | undefined
        do {
          const limit = Math.min((flags.limit ?? 100) - found.length, 500)
          const page = await api.call<AuditPage>('GET', `/v1/audit${query({ ...asked, limit, before: next })}`)
          found.push(...page.records)
          if (page.stoppedAfter !== undefined) process.stderr.write(`looked at ${page.stoppedAfter} records, going on ...\n`)
          next = page.next
        } while (next !== undefined && found.length < (flags.limit ?? 100))
        return found
      })
      list(
        records,
        [
          { title: 'TIME', of: (row) => moment(row.at), whole: true },
          { title: 'TYPE', of: (row) => row.type },
          { title: 'WHO', of: (row) => row.chain?.join(' → ') ?? row.actor },
          { title: 'RESOURCE', of: (row) => row.resource },
          { title: 'ACTION', of: whatOf },
          { title: 'VERDICT', of: verdictOf },
          { title: 'REASON', of: reasonOf },
          ...(flags.shadow === undefined ? [] : [{ title: 'SHADOW', of: (row: AuditRow) => row.shadow }]),
          { title: 'ID', of: (row) => row.id, whole: true },
        ],
        { json: flags.json, none: 'Nothing was found.' },
      )
    })
}

/** What was asked: the statement, or the call with its arguments. */
const whatOf = (row: AuditRow) => row.statement ?? (row.arguments === undefined ? row.action : `${row.action} ${row.arguments}`)

type Told = Pick<AuditRow, 'outcome' | 'verdict' | 'approval' | 'reason' | 'rule' | 'result'>

/** Allowed, and refused after all: what the rule demands of it could not be kept. */
const unsent = ({ result }: Told): string | undefined => (result?.sent === false && typeof result.reason === 'string' ? result.reason : undefined)

/** What came of it; of an approved call that is under way `approved`: the verdict of its record is that it had to be asked for. */
export const verdictOf = (row: Told): string =>
  unsent(row) === undefined ? (row.outcome ?? (row.approval ? 'approved' : (row.verdict ?? ''))) : 'refused'

/** `approved by dana (req_…): role writer, ask rule 1`: that a human was asked is not why it ran. */
export function reasonOf(row: Told): string | undefined {
  const { approval, reason, rule } = row
  if (unsent(row) !== undefined) return unsent(row)
  if (!approval) return reason
  const by = approval.by.map(({ name }) => name).join(', ')
  return `approved${by === '' ? '' : ` by ${by}`} (${approval.request})${rule === undefined ? '' : `: ${rule}`}`
}

function rowText(row: AuditRow): string {
  const who = row.chain?.join(' → ') ?? row.actor ?? ''
  const what = [row.resource, whatOf(row)].filter(Boolean).join(': ')
  return printable([moment(row.at), row.type.padEnd(18), who, what, verdictOf(row), reasonOf(row) ?? ''].filter((text) => text !== '').join('  '))
}

/** ms since 1970. */
export async function timeOf(text: string | undefined, flag: string): Promise<number | undefined> {
  if (text === undefined) return undefined
  if (/^\d{4}-/.test(text)) {
    const at = Date.parse(text)
    if (Number.isFinite(at)) return at
  } else {
    const { parseDuration } = await import('../encoding/duration.ts')
    const { systemClock } = await import('../clock.ts')
    try {
      return systemClock.now() - parseDuration(text)
    } catch {
      // said below
    }
  }
  throw new ChaperoneError('usage', `${flag} ${text} is no time.`, { fix: 'Write 2026-11-22, 2026-11-22T13:00Z, or how long ago: 30m, 7d.' })
}

/** Twenty million records at the rate that verify reaches. */
const LONGEST_VERIFY_MS = 600_000

interface VerifyFlags extends Filters {
  readonly dataDir?: string
  readonly store?: string
  readonly checkpoint?: string
  readonly key?: string
}

function verify(command: Command): void {
  withJson(withServer(command.command('verify').description('find a changed, removed, swapped or forged record')))
    .option('--data-dir <dir>', 'read the store in this directory, without a server')
    .option('--store <url>', 'read the store in this PostgreSQL database, without a server')
    .option(
      '--key <file>',
      "public key of the log (PEM, or as signed note writes it), kept elsewhere: else the store's own word is taken for it; without a server only",
    )
    .option('--checkpoint <file>', 'a checkpoint kept elsewhere; only with one can a cut or rolled-back record be found')
    .addHelpText('after', '\nExit codes: 0 it verifies, 9 it does not; others as in `chaperone --help`.')
    .action(async (flags: VerifyFlags) => {
      const checkpoint = flags.checkpoint === undefined ? undefined : await readKept(flags.checkpoint, '--checkpoint')
      const report = await (flags.dataDir !== undefined || flags.store !== undefined ? offline(flags, checkpoint) : online(flags, checkpoint))
      if (flags.json) printJson(report)
      else printReport(report)
      if (!report.ok) process.exitCode = REASONS.record_broken.exit
    })
}

async function readKept(path: string, flag: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    throw unread(path, cause, `Check the path after ${flag}.`)
  }
}

const online = (flags: VerifyFlags, checkpoint: string | undefined) =>
  withApi(flags, (api) =>
    api.call<VerifyReport>('POST', '/v1/audit/verify', checkpoint === undefined ? {} : { checkpoint }, { timeoutMs: LONGEST_VERIFY_MS }),
  )

async function offline(flags: VerifyFlags, checkpoint: string | undefined): Promise<VerifyReport> {
  const { openLogForReading, verifyLog } = await import('../audit/verify.ts')
  if (flags.dataDir !== undefined && flags.store !== undefined) throw new ChaperoneError('usage', 'Give --data-dir or --store, not both.')
  const { readVerifierKey } = await import('../audit/note.ts')
  const publicKeys = flags.key === undefined ? undefined : [readVerifierKey(await readKept(flags.key, '--key'))]
  const log = await openLogForReading(flags.store === undefined ? { dataDir: flags.dataDir! } : { url: flags.store })
  try {
    return await verifyLog(log, { ...(checkpoint === undefined ? {} : { checkpoint }), ...(publicKeys ? { publicKeys } : {}) })
  } finally {
    await log.close()
  }
}

function printReport(report: VerifyReport): void {
  const verdict = report.ok
    ? styled('green', 'It verifies.')
    : styled('red', `It does not verify: ${report.problemCount} ${report.problemCount === 1 ? 'fault' : 'faults'}.`)
  line(
    `${verdict} ${report.records} records, ${report.bodies} bodies (${report.erased} erased), ${report.checkpoints} checkpoints, in ${Math.round(report.tookMs)} ms`,
  )
  for (const { kind, message, position, node, seq } of report.problems) {
    const where = position !== undefined ? `position ${position}` : node !== undefined ? `${node} ${seq ?? ''}` : ''
    line(`${kind.padEnd(10)} ${printable([where, message].filter(Boolean).join(': '))}`)
  }
  if (report.problemCount > report.problems.length) line(`... and ${report.problemCount - report.problems.length} more`)
  for (const note of report.notes) line(`note       ${printable(note)}`)
}
