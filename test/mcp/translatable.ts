import type { Only } from './pairs.ts'
import type { Requirements, Results } from './suite.ts'

/**
 * Where a scenario cannot say of a server behind Chaperone what it says of the fixture over HTTP, however good the
 * forwarding: the transport or the other era has no word for it. Each with the line that must stand there and the reason;
 * any other line is a difference.
 */
export type Exceptions = Readonly<Record<string, { readonly line: string; readonly why: string }>>

const JSON_ANSWER = {
  line: '1 passed, 0 failed',
  why: 'its second check counts event streams; where nothing precedes the answer it is plain JSON, which is as good',
} as const
const NO_RESUME = 'a stream that its server hangs up and resumes exists only over legacy HTTP'

/** One channel for everything, so nothing to hang up and resume. */
const STDIO: Partial<Readonly<Record<Requirements, Exceptions>>> = {
  '2025-11-25': { 'server-sse-polling': { line: '0 passed, 0 failed', why: NO_RESUME } },
}

/** HTTP+SSE of 2024-11-05: one channel too, and found only when it is used. */
const SSE: Partial<Readonly<Record<Requirements, Exceptions>>> = {
  '2025-11-25': { ...STDIO['2025-11-25'], 'server-sse-multiple-streams': JSON_ANSWER },
  '0.1.16-active': { 'server-sse-multiple-streams': JSON_ANSWER },
}

/** A client of the era of these requirements, a server of the other. */
const TRANSLATED: Partial<Readonly<Record<Requirements, Exceptions>>> = {
  '2025-11-25': { 'server-sse-multiple-streams': JSON_ANSWER },
  '2026-07-28': {
    'server-stateless': {
      line: '28 passed, 2 failed',
      why: 'a legacy server refuses a client that cannot sample in its own words, not with -32021',
    },
  },
}

export const exceptionsFor = (only: Only, requirements: Requirements): Exceptions => {
  if (only === 'stdio') return STDIO[requirements] ?? {}
  if (only === 'sse') return SSE[requirements] ?? {}
  return only === 'translated' ? (TRANSLATED[requirements] ?? {}) : {}
}

const NO_TASKS = 'a legacy server has no tasks extension'
const OWN_KEY = 'wants a key of inputRequests that only a modern server can choose'

/** Translated pairs: the scenarios that are not about what both eras have. They are run and shown, not compared. */
const ONE_ERA: Partial<Readonly<Record<Requirements, Readonly<Record<string, string>>>>> = {
  '2026-07-28': {
    'tasks-lifecycle': NO_TASKS,
    'tasks-capability-negotiation': NO_TASKS,
    'tasks-wire-fields': NO_TASKS,
    'tasks-request-state-removal': NO_TASKS,
    'tasks-mrtr-input': NO_TASKS,
    'tasks-request-headers': NO_TASKS,
    'tasks-dispatch-and-envelope': NO_TASKS,
    'tasks-required-task-error': NO_TASKS,
    'tasks-mrtr-composition': NO_TASKS,
    'input-required-result-basic-elicitation': OWN_KEY,
    'input-required-result-ignore-extra-params': OWN_KEY,
  },
  '2025-11-25': { 'server-sse-polling': NO_RESUME },
}

export const reasonsOf = (requirements: Requirements): Readonly<Record<string, string>> => ONE_ERA[requirements] ?? {}

export const comparable = (results: Results, requirements: Requirements): Results =>
  new Map([...results].filter(([name]) => reasonsOf(requirements)[name] === undefined))

/** Without the differences that an exception foresees. */
export const unforeseen = <D extends { readonly scenario: string; readonly through: string }>(differences: readonly D[], exceptions: Exceptions) =>
  differences.filter(({ scenario, through }) => exceptions[scenario]?.line !== through)
