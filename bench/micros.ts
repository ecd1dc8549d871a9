/** Microseconds of the machine's monotonic clock: the same for every process on it. */
export const micros = (): number => Number(process.hrtime.bigint() / 1000n)
