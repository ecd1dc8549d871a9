import { createHmac } from 'node:crypto'
import { ChaperoneError } from '../errors.ts'
import type { Story } from './types.ts'

/**
 * The body of a webhook: `{type, timestamp, data}` as Standard Webhooks has it. Times are ISO 8601; what is not known is
 * not there.
 */
export function webhookBody({ on, at, request, lock, agent, directory, heldBackUntil }: Story): string {
  const iso = (ms: number | undefined) => (ms === undefined ? undefined : new Date(ms).toISOString())
  const about = request
    ? (({ id, startsAt, endsAt, createdAt, expiresAt, reviewDue, ...rest }) => ({
        request: id,
        ...rest,
        createdAt: iso(createdAt),
        expiresAt: iso(expiresAt),
        startsAt: iso(startsAt),
        endsAt: iso(endsAt),
        reviewDue: iso(reviewDue),
      }))(request)
    : lock
      ? (({ id, expiresAt, ...rest }) => ({ lock: id, ...rest, expiresAt: iso(expiresAt) }))(lock)
      : agent
        ? (({ id, stopsAt, ...rest }) => ({ agent: id, ...rest, stopsAt: iso(stopsAt) }))(agent)
        : directory
          ? { directory: directory.name, what: directory.what }
          : {}
  return JSON.stringify({ type: on, timestamp: iso(at), data: { ...about, heldBackUntil: iso(heldBackUntil) } })
}

const SHORTEST_KEY = 24
const LONGEST_KEY = 64

/** The bytes of a `whsec_` secret. Throws `usage`; what was written there is not repeated. */
export function signingKey(secret: string): Buffer {
  const base64 = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(secret.trim())?.[1]
  const key = Buffer.from(base64 ?? '', 'base64')
  if (key.length < SHORTEST_KEY || key.length > LONGEST_KEY)
    throw new ChaperoneError('usage', 'The secret that signs is not `whsec_` and 24 to 64 bytes in base64.', {
      fix: 'printf "whsec_%s" "$(openssl rand -base64 32)" | chaperone secret set NAME',
    })
  return key
}

/**
 * The three headers of Standard Webhooks. `id` stays the same however often it is sent, so the receiver can tell a
 * repetition; the time is that of the attempt (s since 1970), so that it can refuse what somebody kept and plays again.
 */
export function webhookHeaders(id: string, seconds: number, body: string, keys: readonly Buffer[]): Readonly<Record<string, string>> {
  const sign = (key: Buffer) => `v1,${createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64')}`
  return { 'webhook-id': id, 'webhook-timestamp': String(seconds), 'webhook-signature': keys.map(sign).join(' ') }
}
