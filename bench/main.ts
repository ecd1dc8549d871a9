/**
 * `npm run bench -- [w1 w2 w3 w4 w5 w6 w7 w8 w9] [--quick] [--json] [--no-peers]`: the measured workloads, side by side in one run.
 * Traffic goes to loopback only, is bounded in time, and ends by itself.
 */
import { type ApprovalResult, type LockResult, machine, type Result } from './measure.ts'
import { w7 } from './workloads/approvals.ts'
import { w9 } from './workloads/certificates.ts'
import { w4 } from './workloads/lists.ts'
import { w6 } from './workloads/locks.ts'
import { type Plan, w1, w2, w3 } from './workloads/mcp.ts'
import { w8 } from './workloads/postgres.ts'
import { w5 } from './workloads/stdio.ts'

const args = process.argv.slice(2)
const flags = new Set(args.filter((arg) => arg.startsWith('--')))
const quick = flags.has('--quick')
const plan: Plan = quick ? { passes: 2, ms: 1_000, warmupMs: 500 } : { passes: 5, ms: 2_500, warmupMs: 700 }
const all: Readonly<Record<string, () => Promise<Result | ApprovalResult | LockResult>>> = {
  w1: () => w1(plan, { peers: !flags.has('--no-peers') }),
  w2: () => w2(plan),
  w3: () => w3(plan),
  w4: () => w4(plan),
  w5: () => w5(plan),
  w6: () => w6(plan),
  w7: () => w7(plan),
  w8: () => w8(plan),
  w9: () => w9(plan),
}
const chosen = args.filter((arg) => !arg.startsWith('--'))
const unknown = [...chosen.filter((name) => !(name in all)), ...[...flags].filter((flag) => !['--quick', '--json', '--no-peers'].includes(flag))]
if (unknown.length > 0) {
  console.error(`bench: unknown: ${unknown.join(' ')}. Workloads: ${Object.keys(all).join(' ')}; flags: --quick --json --no-peers`)
  process.exit(2)
}

const results: (Result | ApprovalResult | LockResult)[] = []
if (!flags.has('--json')) console.log(`${machine()}\n${plan.passes} passes of ${plan.ms} ms, rotated order, medians\n`)
for (const name of chosen.length > 0 ? chosen : Object.keys(all)) {
  const result = await all[name]!()
  results.push(result)
  if (flags.has('--json')) continue
  if ('lost' in result) printApprovals(result)
  else if ('slipped' in result) printLocks(result)
  else print(result)
}
if (flags.has('--json')) console.log(JSON.stringify(results, null, 2))
process.exit(0)

function print(result: Result): void {
  console.log(`${result.workload}   to_floor ${result.to_floor ?? '-'}   floor: ${result.floor}`)
  console.log('| name | c | rps (min-max) | p50 ms | p99 ms | cpu ms/1000 | rss MB |\n|---|---|---|---|---|---|---|')
  for (const row of result.rows) {
    console.log(
      `| ${row.name} | ${row.concurrency} | ${row.rps} (${row.rps_min}-${row.rps_max}) | ${row.p50_ms} | ${row.p99_ms} | ${row.cpu_ms} | ${row.rss_mb} |`,
    )
  }
  if (result.memory) {
    const { connections, before_mb, idle_mb, active_mb, idle_kb_each, active_kb_each } = result.memory
    console.log(
      `  ${connections} connections: ${before_mb} MB before, ${idle_mb} idle (${idle_kb_each} KB each), ${active_mb} at work (${active_kb_each} KB each)`,
    )
  }
  if (result.known_texts) {
    const rates = Object.entries(result.known_texts).map(([mode, rate]) => `${mode} ${rate} %`)
    console.log(`  texts that were known: ${rates.join(', ')}`)
  }
  for (const note of result.notes) console.log(`  note: ${note}`)
  console.log()
}

function printLocks({ workload, slipped, cut_ms, cut_ms_nodes, rows, notes }: LockResult): void {
  console.log(`${workload}   slipped ${slipped}   slowest cut ${cut_ms} ms on one node, ${cut_ms_nodes} ms over two`)
  console.log('| what | nodes | running | slipped | cut ms | slowest | written ms | slowest | clients cpu ms | acknowledged ms | cut, each pass |')
  console.log('|---|---|---|---|---|---|---|---|---|---|---|')
  for (const row of rows) {
    const { name, nodes, running, cut_ms_max, node_ms, node_ms_max, clients_cpu_ms, ack_ms, cut } = row
    console.log(
      `| ${name} | ${nodes} | ${running} | ${row.slipped} | ${row.cut_ms} | ${cut_ms_max} | ${node_ms} | ${node_ms_max} | ${clients_cpu_ms} | ${ack_ms} | ${cut.join(' ')} |`,
    )
  }
  for (const note of notes) console.log(`  note: ${note}`)
  console.log()
}

function printApprovals({ workload, lost, twice, rows, notes }: ApprovalResult): void {
  console.log(`${workload}   lost ${lost}   twice ${twice}`)
  console.log('| parked | kept | ran | lost | twice | restart ms |\n|---|---|---|---|---|---|')
  for (const row of rows) console.log(`| ${row.parked} | ${row.kept} | ${row.ran} | ${row.lost} | ${row.twice} | ${row.restart_ms} |`)
  for (const note of notes) console.log(`  note: ${note}`)
  console.log()
}
