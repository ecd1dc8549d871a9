/**
 * Milliseconds of work that this process has done. For tests that say how much something may cost: what other processes do
 * meanwhile makes a clock on the wall run on, and this one not.
 */
export function spentMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}
