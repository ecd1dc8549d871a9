import { ChaperoneError } from '../errors.ts'

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
] as const

/** Largest first, each unit at most once: `1h30m` has one reading, `30m1h` and `1h1h` are typing errors. */
const FORM = /^(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?$/

/** Ten years: longer is a typing error, and sums of it stay far from the limits of a timestamp. */
const LONGEST_MS = 3650 * 86_400_000

/** Milliseconds of `30s`, `3m`, `12h`, `7d`, `1h30m`. Throws ChaperoneError('invalid_document') for anything else, also for nothing at all (`0s`). */
export function parseDuration(text: string): number {
  const parts = FORM.exec(text)
  let ms = 0
  if (parts) for (const [i, [, size]] of UNITS.entries()) ms += Number(parts[i + 1] ?? 0) * size
  if (ms <= 0 || ms > LONGEST_MS) {
    throw new ChaperoneError('invalid_document', `${JSON.stringify(text)} is not a duration.`, {
      fix: 'Write a time such as 30s, 3m, 12h, 7d or 1h30m.',
    })
  }
  return ms
}

/** The shortest text that {@link parseDuration} reads back; less than a second shows as `250ms`, for people only. */
export function formatDuration(ms: number): string {
  let rest = Math.max(0, Math.round(ms))
  if (rest < 1000) return rest === 0 ? '0s' : `${rest}ms`
  let text = ''
  for (const [unit, size] of UNITS) {
    const count = Math.floor(rest / size)
    if (count > 0) text += `${count}${unit}`
    rest -= count * size
  }
  return text
}
