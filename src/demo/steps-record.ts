import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { backup, DatabaseSync } from 'node:sqlite'
import type { AuditRow } from '../api/audit-contract.ts'
import { openLogForReading, type VerifyReport, verifyLog } from '../audit/verify.ts'
import { HELPER } from './steps-chain.ts'
import { PURPOSE } from './steps-governed.ts'
import type { Teller } from './story.ts'
import type { World } from './world.ts'

/** What dana finds in the record, and that it cannot be rewritten quietly. */
export async function inTheRecord(teller: Teller, world: World, { forge }: { readonly forge: boolean }): Promise<void> {
  teller.chapter('8. The record', 'dana looks at what happened: who did what, as whom, on whose behalf, why, allowed or refused by which rule.')
  await world.dana.freshFactor()

  await teller.step('every statement has its identity, chain, purpose and rule', 'nothing is missing in any of them', async () => {
    const rows = await allRecords(world)
    const statements = rows.filter(
      (row) => row.actor === 'boris-ai' && row.purpose === PURPOSE && (row.type === 'action.intent' || row.type === 'action.refused'),
    )
    const incomplete = statements.filter(
      (row) => row.chain?.join(' > ') !== 'boris > boris-ai' || row.reason === undefined || (row.verdict === 'allow' && row.rule === undefined),
    )
    const refused = statements.filter((row) => row.type === 'action.refused')
    return {
      observed: `${statements.length} records of boris-ai for boris, ${refused.length} of them refusals; ${incomplete.length} incomplete`,
      ok: statements.length > 30 && refused.length > 20 && incomplete.length === 0 && words(refused).includes('DROP TABLE customers'),
      lines: statements
        .slice(0, 400)
        .filter((_, i) => i % Math.ceil(statements.length / 6) === 0)
        .map(oneLine),
    }
  })

  await teller.step(`what ${HELPER} did`, 'stands there with the whole chain, for whom each link acts', async () => {
    const rows = (await allRecords(world, HELPER)).filter(
      ({ actor, type }) => actor === HELPER && (type === 'action.intent' || type === 'action.refused'),
    )
    const chains = [...new Set(rows.map((row) => row.chain?.join(' > ') ?? 'no chain'))]
    return {
      observed: `${rows.length} records, of ${chains.join(' and of ')}`,
      ok: rows.length > 1 && chains.join() === `boris > boris-ai > ${HELPER}`,
      lines: rows.slice(0, 4).map(oneLine),
    }
  })

  await teller.step('the record verifies', 'every record is where it was written, as it was written', async () => {
    const report = await world.dana.api.call<VerifyReport>('POST', '/v1/audit/verify', {})
    return {
      observed: `${report.records} records, ${report.problems.length} problems`,
      ok: report.ok && report.records > 0 && report.problems.length === 0,
    }
  })

  await teller.step('somebody flips one byte of one record on a copy', 'verify finds the record', async () => {
    const position = await flipOneByte(world, forge)
    const log = await openLogForReading({ dataDir: join(world.dir, 'forged') })
    try {
      const report = await verifyLog(log)
      const found = report.problems.find((problem) => problem.position === position)
      return {
        observed: found
          ? `found: record ${position}: ${found.message}`
          : `nothing found about record ${position} (${report.problems.length} problems)`,
        ok: !report.ok && found !== undefined,
      }
    } finally {
      await log.close()
    }
  })
}

async function allRecords({ dana }: World, identity = 'boris-ai'): Promise<readonly AuditRow[]> {
  const rows: AuditRow[] = []
  let before: string | undefined
  do {
    const query = new URLSearchParams({ identity, limit: '500', ...(before === undefined ? {} : { before }) })
    const page = await dana.api.call<{ records: AuditRow[]; next?: string }>('GET', `/v1/audit?${query}`)
    rows.push(...page.records)
    before = page.next
  } while (before !== undefined)
  return rows
}

/** What was asked, word by word: SQL, or the arguments of a call. */
const words = (rows: readonly AuditRow[]) => rows.map((row) => row.statement ?? row.arguments ?? '').join('\n')

const oneLine = (row: AuditRow) =>
  `${new Date(row.at).toISOString().slice(11, 19)} ${row.chain?.join(' > ')}  ${row.verdict ?? ''} (${row.reason}${row.rule === undefined ? '' : `, ${row.rule}`})  ${(row.statement ?? [row.action, row.arguments].filter(Boolean).join(' ')).slice(0, 90)}`

/** On a copy of the store, as somebody with the file in hands would do it. Returns the record's position. */
async function flipOneByte(world: World, forge: boolean): Promise<number> {
  await world.server.parts.audit.checkpoint()
  const target = join(world.dir, 'forged')
  await mkdir(target, { mode: 0o700 })
  const source = new DatabaseSync(join(world.dir, 'data', 'chaperone.db'), { readOnly: true })
  await backup(source, join(target, 'chaperone.db'))
  source.close()
  const copy = new DatabaseSync(join(target, 'chaperone.db'))
  const row = copy
    .prepare("SELECT position, leaf FROM audit_leaves WHERE type = 'action.refused' AND position IS NOT NULL ORDER BY position LIMIT 1")
    .get() as { position: number; leaf: Uint8Array }
  const leaf = Buffer.from(row.leaf)
  const at = leaf.indexOf('boris')
  if (forge) leaf[at] = leaf[at]! ^ 1
  copy.prepare('UPDATE audit_leaves SET leaf = ? WHERE position = ?').run(leaf, row.position)
  copy.close()
  return row.position
}
