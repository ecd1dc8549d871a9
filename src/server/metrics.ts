import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { Draft } from '../audit/record.ts'

/** Prometheus metrics. Names of identities and resources are not labels: they would leak, and grow without bound. */
export interface Metrics {
  /** Counts every durable record. */
  recorded(draft: Draft): void
  outcomeLost(): void
  /** What came of an attempt to tell somebody outside; `dropped`: too many were waiting, or about one identity. */
  notified(result: 'done' | 'failed' | 'given_up' | 'dropped'): void
  /** An HTTP request was answered, after so many seconds. */
  answered(listener: string, status: number, seconds: number): void
  /** Where to read how often the meaning of a SQL text was known, and how often it was parsed. Called once. */
  descriptions(read: () => { readonly hits: number; readonly misses: number }): void
  text(): Promise<string>
  readonly contentType: string
}

export interface Gauges {
  sessions(): number
  connections(): number
  permits(): number
  epoch(): number
}

export function makeMetrics(gauges: Gauges): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry, prefix: 'chaperone_' })
  const decisions = new Counter({
    name: 'chaperone_decisions_total',
    help: 'Decisions by protocol, verdict and reason',
    labelNames: ['kind', 'verdict', 'reason'],
    registers: [registry],
  })
  const records = new Counter({ name: 'chaperone_records_total', help: 'Durable records by type', labelNames: ['type'], registers: [registry] })
  const lost = new Counter({ name: 'chaperone_outcomes_lost_total', help: 'Outcomes that could not be recorded', registers: [registry] })
  const notifications = new Counter({
    name: 'chaperone_notifications_total',
    help: 'Attempts to tell somebody outside, by what came of them',
    labelNames: ['result'],
    registers: [registry],
  })
  const requestSeconds = new Histogram({
    name: 'chaperone_http_request_seconds',
    help: 'Time to answer an HTTP request',
    labelNames: ['listener', 'status'] as const,
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
    registers: [registry],
  })
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name: `chaperone_${name}`,
      help,
      registers: [registry],
      collect() {
        this.set(read())
      },
    })
  gauge('sessions', 'Live sessions of this node', gauges.sessions)
  gauge('connections', 'Open connections of this node', gauges.connections)
  gauge('permits', 'Actions under way', gauges.permits)
  gauge('epoch', 'Epoch of the store as this node knows it', gauges.epoch)
  // Looking a counter up by its labels costs more than counting; there are few of each.
  const ofType = new Map<string, { inc(): void }>()
  const ofDecision = new Map<string, { inc(): void }>()
  const ofAnswer = new Map<string, { observe(seconds: number): void }>()
  const kept = <Counter>(counters: Map<string, Counter>, key: string, make: () => Counter): Counter => {
    const known = counters.get(key)
    if (known) return known
    const made = make()
    counters.set(key, made)
    return made
  }
  return {
    recorded({ type, decision, action }) {
      kept(ofType, type, () => records.labels({ type })).inc()
      if (!decision || !action) return
      const { verdict, reason } = decision
      kept(ofDecision, `${action.kind} ${verdict} ${reason}`, () => decisions.labels({ kind: action.kind, verdict, reason })).inc()
    },
    outcomeLost: () => lost.inc(),
    notified: (result) => notifications.labels({ result }).inc(),
    answered(listener, code, seconds) {
      const status = `${Math.floor(code / 100)}xx`
      kept(ofAnswer, listener + status, () => requestSeconds.labels({ listener, status })).observe(seconds)
    },
    descriptions(read) {
      new Counter({
        name: 'chaperone_sql_texts_total',
        help: 'SQL texts by how their meaning was found: known from before, or parsed',
        labelNames: ['how'],
        registers: [registry],
        collect() {
          const { hits, misses } = read()
          this.reset()
          this.labels({ how: 'known' }).inc(hits)
          this.labels({ how: 'parsed' }).inc(misses)
        },
      })
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
  }
}
