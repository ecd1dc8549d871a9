import { randomBytes } from 'node:crypto'
import { withMeta } from './text/meta.ts'
import type { ClientHeaders } from './types.ts'
import { isObject, type Notification, type Request } from './wire.ts'

/** W3C Trace Context, version 00: version, trace id, parent id, flags; ids of only zeros are invalid. */
const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})$/

export interface Traced<T> {
  readonly message: T
  readonly headers: ClientHeaders
  /** the trace id, for the record */
  readonly trace?: string
}

/**
 * Continues the client's trace with a span of ours: from `_meta` (MCP SEP-414), else from the header; to the server in both.
 * `baggage` stays here: it is data of the client's side that nobody decided to send over this border. A message without a
 * trace stays as it is.
 */
export function continueTrace<T extends Request | Notification>(message: T, headers: ClientHeaders): Traced<T> {
  const { traceparent: header, tracestate: state, ...others } = headers
  const meta = isObject(message.params._meta) ? message.params._meta : {}
  const given = [meta.traceparent, header].find((value): value is string => typeof value === 'string' && TRACEPARENT.test(value))
  if (given === undefined && !('baggage' in meta)) return { message, headers }
  const [, trace, flags] = given === undefined ? [] : TRACEPARENT.exec(given)!
  const ours = trace === undefined ? undefined : `00-${trace}-${randomBytes(8).toString('hex')}-${flags}`
  const text = withMeta(message.text, (members) => {
    members.delete('baggage')
    if (ours !== undefined) members.set('traceparent', JSON.stringify(ours))
    // A state belongs to the parent that it came with.
    if (ours !== undefined && given === header && state !== undefined && !members.has('tracestate')) members.set('tracestate', JSON.stringify(state))
  })
  // Whoever writes the message anew, for a server of the other era, does it from these.
  const { baggage: _, ...kept } = meta
  const params = { ...message.params, _meta: ours === undefined ? kept : { ...kept, traceparent: ours } }
  return {
    message: { ...message, params, text },
    headers: ours === undefined ? others : { ...others, traceparent: ours, ...(state === undefined ? {} : { tracestate: state }) },
    ...(trace === undefined ? {} : { trace }),
  }
}
