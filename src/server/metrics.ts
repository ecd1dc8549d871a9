import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { Draft } from '../audit/record.ts'

/** Prometheus metrics. Names of identities and resources are not labels: they would leak, and grow without bound. */
export interface Metrics {
  /** Counts every durable record. */
  recorded(draft: Draft): void
  outcomeLost(): void
  readonly requestSeconds: Histogram<'listener' | 'status'>
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
  return {
    recorded(draft) {
      records.inc({ type: draft.type })
      if (draft.decision && draft.action) decisions.inc({ kind: draft.action.kind, verdict: draft.decision.verdict, reason: draft.decision.reason })
    },
    outcomeLost: () => lost.inc(),
    requestSeconds,
    text: () => registry.metrics(),
    contentType: registry.contentType,
  }
}
