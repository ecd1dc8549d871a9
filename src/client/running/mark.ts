import { createHash } from 'node:crypto'
import type { Mark } from '../../gateways/mcp/stdio/memory.ts'

/**
 * By what all that a run has started is found, also what has left its group, its session and its parent. Its environment; and, for what
 * began with another one (`env -i`), a limit that is handed on to whatever is started and that Linux has not looked at since 2.4.25 (RLIMIT_LOCKS,
 * getrlimit(2)). A program that means harm sets both anew: for that there is bubblewrap.
 */
export const markOf = (run: string): Required<Pick<Mark, 'variable' | 'locks'>> => ({
  variable: `CHAPERONE_RUN=${run}`,
  locks: LARGE + BigInt(`0x${createHash('sha256').update(run).digest('hex').slice(0, 12)}`),
})

/** As good as none, and below what means none. */
const LARGE = 2n ** 62n
