import { canonicalJson } from '../../encoding/canonical-json.ts'
import { toChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import type { Keyring } from '../../keys/types.ts'
import { edited, spanAt } from './text/json-text.ts'
import { INVALID_PARAMS, ProtocolError, type Request } from './wire.ts'

/** Makes what a server or we hand to a client, to be brought back, useless to anybody else. */
export interface Handles {
  /** The answer with its `requestState` sealed for this caller and this call. */
  sealed(resourceId: string, session: LiveSession, message: Request, text: string): Promise<string>
  /** The retry with the server's own `requestState`. Throws ProtocolError when it was sealed for another caller or call, or is forged. */
  opened(resourceId: string, session: LiveSession, message: Request): Promise<Request>
  /** A `requestState` of ours around what we want to know again. */
  seal(resourceId: string, session: LiveSession, message: Request, text: string): Promise<string>
  /** What we sealed into the `requestState` that the message brings back; undefined when it brings none of ours. Throws as `opened`. */
  open(resourceId: string, session: LiveSession, message: Request): Promise<string | undefined>
}

/** A server's own state, sealed; and a state of ours, which may hold one of those. Neither begins like the other. */
const PREFIX = 'chaperone.'
const OURS = 'chaperone-round.'

/**
 * A `requestState` is a handle that a server believes (2026-07-28, multi round trips). It should bind it to the principal, but
 * all callers of ours come with one credential: so we do. A value without our prefix was never given to a client by us; it
 * is the server's to believe or not, like any made-up one.
 */
export function openHandles(keyring: Pick<Keyring, 'seal' | 'open'>): Handles {
  const context = (prefix: string, resourceId: string, session: LiveSession, { method, params }: Request) =>
    canonicalJson([
      prefix === PREFIX ? 'requestState' : 'round',
      resourceId,
      session.principal.chain.map((link) => link.identity),
      method,
      params.name ?? params.uri ?? null,
    ])

  const wrap = async (prefix: string, resourceId: string, session: LiveSession, message: Request, text: string) => {
    const bytes = await keyring.seal('handles', text, context(prefix, resourceId, session, message))
    return prefix + Buffer.from(bytes).toString('base64url')
  }

  const unwrap = async (prefix: string, resourceId: string, session: LiveSession, message: Request): Promise<string | undefined> => {
    const given = message.params.requestState
    if (typeof given !== 'string' || !given.startsWith(prefix)) return undefined
    const sealed = Buffer.from(given.slice(prefix.length), 'base64url')
    const foreign = () =>
      new ProtocolError(INVALID_PARAMS, 'The requestState is not the one that was given for this call.', { id: message.id, http: 200 })
    // Node reads base64url that has something behind it; what we gave out has one spelling.
    if (sealed.toString('base64url') !== given.slice(prefix.length)) throw foreign()
    try {
      const plain = await keyring.open('handles', sealed, context(prefix, resourceId, session, message))
      return plain.toString('utf8')
    } catch (error) {
      if (toChaperoneError(error).code !== 'key_mismatch') throw error
      throw foreign()
    }
  }

  return {
    async sealed(resourceId, session, message, text) {
      const span = spanAt(text, ['result', 'requestState'])
      if (!span) return text
      const state: unknown = JSON.parse(text.slice(span.start, span.end))
      if (typeof state !== 'string') return text
      return edited(text, [{ ...span, text: JSON.stringify(await wrap(PREFIX, resourceId, session, message, state)) }])
    },

    async opened(resourceId, session, message) {
      const state = await unwrap(PREFIX, resourceId, session, message)
      if (state === undefined) return message
      const span = spanAt(message.text, ['params', 'requestState'])!
      return {
        ...message,
        params: { ...message.params, requestState: state },
        text: edited(message.text, [{ ...span, text: JSON.stringify(state) }]),
      }
    },

    seal: (...given) => wrap(OURS, ...given),
    open: (...given) => unwrap(OURS, ...given),
  }
}
