import { z } from 'zod'
import { ChaperoneError } from '../errors.ts'

/** `when:` of a role: the hours of a week in which it counts. */
export const whenSchema = z.strictObject({
  days: z
    .union([z.string(), z.array(z.string())])
    .optional()
    .describe('mon-fri, a day, or a list of both; default: every day'),
  hours: z.string().optional().describe('"08:00-18:00", also over midnight ("22:00-06:00" belongs to the day it begins on); default: the whole day'),
  zone: z.string().describe('IANA time zone such as Europe/Berlin'),
})

export type WhenSpec = z.infer<typeof whenSchema>

export interface WhenState {
  readonly active: boolean
  /** ms since 1970: `active` is sure to hold until then, and is to be asked again. Absent: for ever. */
  readonly until?: number
}

export interface When {
  at(now: number): WhenState
  /** No day is left: it is never true. */
  readonly never: boolean
}

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']
const MINUTE = 60_000
const DAY = 86_400_000
/** An edge lies within a week, or within two when a change of the clock swallows it; later is asked again. */
const HORIZON_DAYS = 16

const invalid = (message: string, fix: string) => new ChaperoneError('invalid_document', message, { fix })

/** Throws ChaperoneError('invalid_document') for days, hours or a zone that do not exist. */
export function compileWhen(spec: WhenSpec): When {
  const days = readDays(spec.days)
  const [from, to] = readHours(spec.hours)
  const offset = zoneOffset(spec.zone)
  if (spec.days === undefined && spec.hours === undefined)
    throw invalid('`when` names neither days nor hours.', 'Add days or hours, or leave `when` out.')

  /** Is it so at this local time (ms as if the clock on the wall were UTC)? */
  const activeAt = (local: number) => {
    const minute = Math.floor((((local % DAY) + DAY) % DAY) / MINUTE)
    const weekday = (Math.floor(local / DAY) + 4) % 7 // 1 January 1970 was a Thursday
    if (from < to) return days.has(weekday) && minute >= from && minute < to
    return (days.has(weekday) && minute >= from) || (days.has((weekday + 6) % 7) && minute < to)
  }

  /** The first moment after `now` at which it is not as it is now; walks over stretches of one offset from UTC. */
  const next = (now: number, active: boolean): number => {
    const end = now + HORIZON_DAYS * DAY
    for (let start = now; start < end; ) {
      const shift = offset(start)
      const stop = Math.min(end, stretchEnd(offset, start, shift))
      if (start > now && activeAt(start + shift) !== active) return start
      for (let day = Math.floor((start + shift) / DAY); day * DAY - shift < stop; day++) {
        for (const minute of from < to ? [from, to] : [to, from]) {
          const at = day * DAY + minute * MINUTE - shift
          if (at > start && at < stop && activeAt(at + shift) !== active) return at
        }
        const midnight = (day + 1) * DAY - shift
        if (midnight > start && midnight < stop && activeAt(midnight + shift) !== active) return midnight
      }
      start = stop
    }
    return end
  }

  const always = days.size === 7 && from === 0 && to === 1440
  let last = { from: 0, until: 0, active: false }
  return {
    never: days.size === 0,
    at(now) {
      if (days.size === 0) return { active: false }
      if (always) return { active: true }
      // A clock that went back is before `from`, and is asked anew.
      if (now < last.from || now >= last.until) {
        const active = activeAt(now + offset(now))
        last = { from: now, until: next(now, active), active }
      }
      return last
    },
  }
}

/** The end of the stretch with this offset: at most a day ahead, else found by halving to the minute. */
function stretchEnd(offset: (at: number) => number, start: number, shift: number): number {
  let high = start + DAY
  if (offset(high) === shift) return high
  let low = start
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (offset(middle) === shift) low = middle
    else high = middle
  }
  return high
}

function readDays(spec: WhenSpec['days']): ReadonlySet<number> {
  if (spec === undefined) return new Set(DAYS.keys())
  const days = new Set<number>()
  for (const item of Array.isArray(spec) ? spec : [spec]) {
    const [first, last = first, ...more] = item.split('-').map((name) => DAYS.indexOf(name.trim().toLowerCase()))
    if (first === undefined || first < 0 || last === undefined || last < 0 || more.length > 0) {
      throw invalid(`${JSON.stringify(item)} is not a day.`, `Write ${DAYS.join(', ')}, or a range such as mon-fri.`)
    }
    for (let day = first; ; day = (day + 1) % 7) {
      days.add(day)
      if (day === last) break
    }
  }
  return days
}

/** Minutes of the day. */
function readHours(spec: string | undefined): [number, number] {
  if (spec === undefined) return [0, 1440]
  const found = /^(\d{2}):([0-5]\d)-(\d{2}):([0-5]\d)$/.exec(spec.replaceAll(' ', ''))
  const [from, to] = found ? [Number(found[1]) * 60 + Number(found[2]), Number(found[3]) * 60 + Number(found[4])] : [-1, -1]
  if (from < 0 || from >= 1440 || to > 1440 || from === to) {
    throw invalid(`${JSON.stringify(spec)} are not hours.`, 'Write "08:00-18:00"; for the whole day leave hours out.')
  }
  return [from, to]
}

/** Making a formatter takes 50 times as long as using one. Bounded: only zones that exist get in. */
const formatters = new Map<string, Intl.DateTimeFormat>()

/** Milliseconds to add to UTC for the clock on the wall. */
function zoneOffset(zone: string): (at: number) => number {
  let formatter = formatters.get(zone)
  if (!formatter) {
    try {
      if (!/^[A-Za-z]/.test(zone)) throw new RangeError('not a name')
      formatter = new Intl.DateTimeFormat('en-US', {
        timeZone: zone,
        hourCycle: 'h23',
        year: 'numeric',
        month: 'numeric',
        day: 'numeric',
        hour: 'numeric',
        minute: 'numeric',
        second: 'numeric',
      })
    } catch (cause) {
      throw new ChaperoneError('invalid_document', `${JSON.stringify(zone)} is not a time zone.`, {
        fix: 'Write an IANA name such as Europe/Berlin or UTC.',
        cause,
      })
    }
    formatters.set(zone, formatter)
  }
  const known = formatter
  return (at) => {
    const part: Record<string, number> = {}
    for (const { type, value } of known.formatToParts(at)) part[type] = Number(value)
    const local = Date.UTC(part.year!, part.month! - 1, part.day!, part.hour!, part.minute!, part.second!)
    return local - Math.floor(at / 1000) * 1000
  }
}
