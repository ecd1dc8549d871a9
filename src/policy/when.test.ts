import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { compileWhen, type WhenSpec } from './when.ts'

const at = (spec: WhenSpec, time: string) => compileWhen(spec).at(Date.parse(time))
const until = (spec: WhenSpec, time: string) => {
  const state = at(spec, time)
  return state.until === undefined ? 'for ever' : new Date(state.until).toISOString().slice(0, 16)
}

const office = { days: 'mon-fri', hours: '08:00-18:00', zone: 'Europe/Berlin' }

test('when: a week, its edges, and the weekend', () => {
  assert.equal(at(office, '2026-11-23T07:00Z').active, true)
  assert.equal(until(office, '2026-11-23T07:00Z'), '2026-11-23T17:00')
  assert.equal(at(office, '2026-11-27T17:00Z').active, false)
  assert.equal(until(office, '2026-11-27T17:00Z'), '2026-11-30T07:00')
})

test('when: the clocks go forward and back', () => {
  // 29 March 2026: 02:00 becomes 03:00 in Berlin. 25 October 2026: 03:00 becomes 02:00.
  const early = { hours: '00:30-04:00', zone: 'Europe/Berlin' }
  assert.equal(until(early, '2026-03-28T23:45Z'), '2026-03-29T02:00')
  assert.equal(until(early, '2026-10-24T22:45Z'), '2026-10-25T03:00')
  // An hour that the night swallows does not come; one that comes twice is there twice.
  const gap = { days: ['sun'], hours: '02:15-02:45', zone: 'Europe/Berlin' }
  assert.equal(until(gap, '2026-03-28T12:00Z'), '2026-04-05T00:15')
  assert.equal(until(gap, '2026-10-25T00:20Z'), '2026-10-25T00:45')
  assert.equal(until(gap, '2026-10-25T00:45Z'), '2026-10-25T01:15')
  // Half-hour zones and half-hour clock changes.
  assert.equal(until({ hours: '01:00-02:00', zone: 'Australia/Lord_Howe' }, '2026-04-04T14:15Z'), '2026-04-04T15:30')
})

test('when: over midnight, until midnight, and single days', () => {
  const night = { days: ['fri'], hours: '22:00-06:00', zone: 'UTC' }
  assert.equal(until(night, '2026-11-27T21:00Z'), '2026-11-27T22:00')
  assert.equal(until(night, '2026-11-27T23:00Z'), '2026-11-28T06:00')
  assert.equal(until({ hours: '18:00-24:00', zone: 'UTC' }, '2026-11-23T20:00Z'), '2026-11-24T00:00')
  assert.equal(until({ days: 'sat-mon', zone: 'UTC' }, '2026-11-28T12:00Z'), '2026-12-01T00:00')
  assert.equal(until({ days: 'mon-sun', hours: '00:00-24:00', zone: 'UTC' }, '2026-11-28T12:00Z'), 'for ever')
  assert.deepEqual(at({ days: [], zone: 'UTC' }, '2026-11-28T12:00Z'), { active: false })
})

test('when: days, hours and zones that do not exist are faults of the document', () => {
  const specs: WhenSpec[] = [
    { zone: 'UTC' },
    { days: 'mo-fr', zone: 'UTC' },
    { days: 'mon-fri-sun', zone: 'UTC' },
    { days: '', zone: 'UTC' },
    { hours: '8-18', zone: 'UTC' },
    { hours: '08:00-08:00', zone: 'UTC' },
    { hours: '24:00-06:00', zone: 'UTC' },
    { hours: '08:00-25:00', zone: 'UTC' },
    { hours: '08:00-24:30', zone: 'UTC' },
    { days: 'mon', zone: 'Europe/Berlim' },
    { days: 'mon', zone: '+01:00' },
    { days: 'mon', zone: '' },
  ]
  for (const spec of specs) assert.throws(() => compileWhen(spec), { code: 'invalid_document' }, JSON.stringify(spec))
})

test('when: a clock that goes back is judged anew', () => {
  const when = compileWhen(office)
  assert.equal(when.at(Date.parse('2026-11-23T09:00Z')).active, true)
  assert.equal(when.at(Date.parse('2026-11-23T06:00Z')).active, false)
})

test('when: nothing changes before `until`, and something does at it (against a minute-by-minute reading of the wall clock)', () => {
  const wall = (zone: string) => {
    const formatter = new Intl.DateTimeFormat('en-GB', { timeZone: zone, weekday: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' })
    return (now: number) => {
      const part = Object.fromEntries(formatter.formatToParts(now).map(({ type, value }) => [type, value]))
      return { day: part.weekday!.toLowerCase(), minute: Number(part.hour) * 60 + Number(part.minute) }
    }
  }
  const names = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']
  const clock = (minutes: number) => `${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`
  const edges = fc.tuple(fc.integer({ min: 0, max: 95 }), fc.integer({ min: 0, max: 95 })).filter(([from, to]) => from !== to)
  // Around the changes of the clocks of 2026, where mistakes are.
  const moment = fc.tuple(
    fc.constantFrom('2026-03-28', '2026-10-24', '2026-04-04', '2026-10-03', '2026-11-20'),
    fc.integer({ min: 0, max: 3 * 1440 }),
  )
  fc.assert(
    fc.property(
      fc.constantFrom('Europe/Berlin', 'Australia/Lord_Howe', 'Asia/Kathmandu'),
      fc.subarray(names, { minLength: 1 }),
      edges,
      moment,
      (zone, days, [a, b], [date, offset]) => {
        const [from, to] = [a * 15, b * 15]
        const when = compileWhen({ days, hours: `${clock(from)}-${clock(to)}`, zone })
        const read = wall(zone)
        const expected = (now: number) => {
          const { day, minute } = read(now)
          const before = names[(names.indexOf(day) + 6) % 7]!
          if (from < to) return days.includes(day) && minute >= from && minute < to
          return (days.includes(day) && minute >= from) || (days.includes(before) && minute < to)
        }
        const now = Date.parse(`${date}T00:00Z`) + offset * 60_000
        const state = when.at(now)
        assert.equal(state.active, expected(now))
        // Every edge lies on a quarter of an hour in these zones.
        const end = state.until ?? now
        const quarter = 15 * 60_000
        for (let t = Math.floor(now / quarter + 1) * quarter; t < end; t += quarter)
          assert.equal(expected(t), state.active, new Date(t).toISOString())
        assert.equal(expected(end), !state.active)
      },
    ),
    { numRuns: 40 },
  )
})
