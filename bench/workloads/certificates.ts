import type { ChaperoneSaid } from '../chaperone.ts'
import type { LoadResult } from '../load.ts'
import { ask, type Result, rowOf, type Sample, start, stop, usage } from '../measure.ts'
import type { Plan } from './mcp.ts'

/** W9: certificates issued a second, each recorded durably first. The figure to reach is 500/s on a core; it has no floor. */
export async function w9(plan: Plan): Promise<Result> {
  const chaperone = await start<ChaperoneSaid>('chaperone.ts', { documents: [], roles: [] })
  try {
    const samples: Sample[] = []
    const count = plan.ms >= 2_000 ? 2_000 : 500
    await ask(chaperone.child, { issue: 100 })
    for (let pass = 0; pass < plan.passes; pass++) {
      const before = usage(chaperone.child.pid!)
      const result = await ask<LoadResult>(chaperone.child, { issue: count })
      const after = usage(chaperone.child.pid!)
      samples.push({ rps: result.rps, p50: result.p50, p99: result.p99, cpuMs: ((after.cpuMs - before.cpuMs) / count) * 1000, rssMb: after.rssMb })
    }
    return {
      workload: 'w9',
      rows: [rowOf('chaperone', 16, samples)],
      to_floor: null,
      floor: 'none: certificates/s against the figure 500/s',
      notes: [],
    }
  } finally {
    await stop(chaperone.child)
  }
}
