import type { Outcome, Permit } from '../../../access/types.ts'
import { ChaperoneError } from '../../../errors.ts'
import { type Answer, Collector } from '../answer.ts'
import { type Era, LEGACY_VERSIONS, META_CAPABILITIES, MODERN_VERSIONS } from '../era.ts'
import { EndedAtOnce, NeverSpoke } from '../stdio/flight.ts'
import { spanAt } from '../text/json-text.ts'
import { type Asker, BareStatus, type ClientHeaders, NotSent, type Upstream } from '../types.ts'
import { META_VERSION, METHOD_NOT_FOUND, type Notification, type Request, readMessages, sessionGone, UNSUPPORTED_VERSION } from '../wire.ts'
import { EitherLegacy } from './either-legacy.ts'
import { legacyOverModern } from './legacy-over-modern.ts'
import { modernOverLegacy } from './modern-over-legacy.ts'
import { eraByAnswer, eraByFailure, type Spoken, type Verdict } from './spoken.ts'
import type { TranslatorParts } from './translator.ts'

interface EitherEraParts extends Omit<TranslatorParts, 'open'> {
  /** of the client */
  readonly era: Era
  readonly transport: 'http' | 'stdio'
  readonly verdict: Verdict
  /** A raw way to the server. */
  readonly raw: (spoken: Spoken, asker: Asker, ended: (why: ChaperoneError) => void) => Upstream
}

const DISCOVER_HEADERS = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
  'mcp-protocol-version': MODERN_VERSIONS[0]!,
  'mcp-method': 'server/discover',
}

/**
 * A lane to a server whose era is found when the first message goes out. Where client and server share one, their messages
 * pass raw, also with a server of both; else a translator stands between them.
 *
 *   legacy client   its own `initialize` is the probe; when the server refuses it, HTTP+SSE of 2024-11-05 is tried (HTTP), then `server/discover`
 *   modern client   `server/discover` in our name, unless the verdict is known
 */
export class EitherEra implements Upstream {
  readonly #parts: EitherEraParts
  #way: Upstream | undefined
  #finding: Promise<Upstream> | undefined
  #over: ChaperoneError | undefined

  constructor(parts: EitherEraParts) {
    this.#parts = parts
  }

  async request(permit: Permit, message: Request, answer: Answer, headers: ClientHeaders): Promise<Outcome> {
    if (this.#parts.era === 'legacy' && message.method === 'initialize') return this.#handshake(permit, message, answer, headers)
    const way = await this.#find()
    const outcome = await way.request(permit, message, answer, headers)
    // A server that was modern and knows `server/discover` no more has been replaced.
    if (message.method === 'server/discover' && outcome.facts?.error === -32601) this.#parts.verdict.forget()
    return outcome
  }

  async notify(permit: Permit, message: Notification, headers: ClientHeaders): Promise<Outcome> {
    return (await this.#find()).notify(permit, message, headers)
  }

  async stream(permit: Permit, answer: Answer, headers: ClientHeaders): Promise<Outcome> {
    return (await this.#find()).stream(permit, answer, headers)
  }

  agreed(version: string): void {
    this.#way?.agreed(version)
  }

  async end(why: ChaperoneError): Promise<void> {
    this.#over ??= why
    const way = this.#way ?? (await this.#finding?.catch(() => undefined))
    await way?.end(why)
  }

  #find(): Promise<Upstream> {
    if (this.#way) return Promise.resolve(this.#way)
    // The era of sessions begins with a handshake, which has found the way.
    if (this.#parts.era === 'legacy') return Promise.reject(sessionGone('This MCP session has no handshake yet.'))
    this.#finding ??= this.#findModern().finally(() => {
      this.#finding = undefined
    })
    return this.#finding
  }

  async #findModern(): Promise<Upstream> {
    const { verdict } = this.#parts
    let probed: Upstream | undefined
    const spoken =
      verdict.get() ??
      (await verdict.once(async () => {
        probed = this.#raw('modern')
        return this.#probe(probed)
      }))
    if (spoken === 'modern') return this.#choose(probed ?? this.#raw('modern'))
    await probed?.end(new ChaperoneError('unsupported', 'The server speaks only versions with a handshake.'))
    const { raw, transport, limits } = this.#parts
    const open = (asker: Asker, ended: (why: ChaperoneError) => void): Upstream =>
      transport === 'http' ? new EitherLegacy({ open: (as) => raw(as, asker, ended), lineBytes: limits.lineBytes }) : raw(spoken, asker, ended)
    return this.#choose(modernOverLegacy({ ...this.#parts, open }))
  }

  #raw(spoken: Spoken): Upstream {
    return this.#parts.raw(spoken, this.#parts.asker, this.#parts.ended)
  }

  async #choose(way: Upstream): Promise<Upstream> {
    this.#way = way
    if (!this.#over) return way
    await way.end(this.#over)
    throw this.#over
  }

  async #handshake(permit: Permit, message: Request, answer: Answer, headers: ClientHeaders): Promise<Outcome> {
    const { verdict, transport, limits } = this.#parts
    const known = verdict.get()
    let failure: unknown
    if (known !== 'modern') {
      for (const spoken of waysToShakeHands(known, transport)) {
        const way = this.#raw(spoken)
        const taken = new Collector(limits.lineBytes)
        try {
          const outcome = await way.request(permit, message, taken, headers)
          taken.end()
          if (outcome.status === 'ok' && taken.text !== undefined && spanAt(taken.text, ['result', 'protocolVersion'])) {
            verdict.set(spoken)
            await this.#choose(way)
            answer.send(taken.status, taken.text, { 'content-type': 'application/json' })
            return outcome
          }
          failure = { outcome, taken }
        } catch (error) {
          failure = error
          // Whoever was not reached, or did not let us in, speaks no era yet.
          if (permit.signal.aborted || error instanceof NotSent || (error instanceof ChaperoneError && FINAL.has(error.code))) throw error
        }
        await way.end(failure instanceof NeverSpoke ? failure : new ChaperoneError('unsupported', 'The handshake failed.'))
        // Only these statuses say that there is no Streamable HTTP here.
        if (!(failure instanceof BareStatus && [400, 404, 405].includes(failure.status))) break
      }
      if ((transport === 'stdio' && saysNoEra(failure)) || (await this.#probeAfter(failure)) !== 'modern') return giveBack(failure, answer)
      if (saysNothingOfClient(failure, message, headers)) verdict.set('modern')
    }
    const way = await this.#choose(legacyOverModern({ ...this.#parts, open: (asker, ended) => this.#parts.raw('modern', asker, ended) }))
    return way.request(permit, message, answer, headers)
  }

  /** Whether a server that did not shake hands speaks the modern era. When even that cannot be asked, its first answer stands. */
  async #probeAfter(failure: unknown): Promise<Era> {
    const way = this.#raw('modern')
    try {
      return await this.#probe(way)
    } catch (error) {
      this.#parts.log('mcp.probe', { server: this.#parts.name, error: String(error), handshake: String(failure) })
      return 'legacy'
    } finally {
      await way.end(failure instanceof NeverSpoke ? failure : new ChaperoneError('unsupported', 'The probe is over.'))
    }
  }

  async #probe(way: Upstream): Promise<Era> {
    const { errand, limits, transport } = this.#parts
    const message = discover()
    const taken = new Collector(limits.lineBytes)
    try {
      await errand(message, (permit) => way.request(permit, message, taken, DISCOVER_HEADERS))
    } catch (error) {
      return eraByFailure(error, transport)
    }
    taken.end()
    return eraByAnswer(taken.text ?? '')
  }
}

/** Reasons that say nothing of the era: nobody was asked, or nobody may be. */
const FINAL = new Set<string>(['too_many', 'isolation_unavailable', 'upstream_login_required', 'draining', 'locked', 'session_ended'])

/** A process of the other era refuses the handshake, ends at it, or is silent. One that prints what is not MCP is none of any era. */
const saysNoEra = (failure: unknown) =>
  failure instanceof ChaperoneError && !(failure instanceof EndedAtOnce || (failure instanceof NeverSpoke && failure.reason === 'not_started'))

function waysToShakeHands(known: Spoken | undefined, transport: 'http' | 'stdio'): readonly Spoken[] {
  if (transport === 'stdio') return ['legacy']
  return known === 'old-sse' ? ['old-sse', 'legacy'] : ['legacy', 'old-sse']
}

/**
 * Whether the handshake was refused for its era, not for what this client wrote in it: a verdict holds for everybody, and a
 * server of both eras that refuses one client's nonsense would be spoken to through a translator for all.
 */
function saysNothingOfClient(failure: unknown, { params }: Request, { accept = '' }: ClientHeaders): boolean {
  if (!LEGACY_VERSIONS.includes(String(params.protocolVersion)) || !/json/i.test(accept) || !/event-stream/i.test(accept)) return false
  if (typeof failure !== 'object' || failure === null || !('outcome' in failure)) return true
  const code = (failure as { outcome: Outcome }).outcome.facts?.error
  return code === METHOD_NOT_FOUND || code === UNSUPPORTED_VERSION
}

/** The server's own refusal of the handshake goes to the client as it came. */
function giveBack(failure: unknown, answer: Answer): Outcome {
  if (typeof failure === 'object' && failure !== null && 'taken' in failure) {
    const { taken, outcome } = failure as { taken: Collector; outcome: Outcome }
    answer.send(taken.status, taken.text, { 'content-type': 'application/json' })
    return outcome
  }
  throw failure
}

let next = 1

/** Capabilities are empty: whatever the server would ask of us, this is not the moment. */
function discover(): Request {
  const text = JSON.stringify({
    jsonrpc: '2.0',
    id: `chaperone-discover-${next++}`,
    method: 'server/discover',
    params: {
      _meta: {
        [META_VERSION]: MODERN_VERSIONS[0],
        [META_CAPABILITIES]: {},
        'io.modelcontextprotocol/clientInfo': { name: 'chaperone', version: '1' },
      },
    },
  })
  return readMessages(Buffer.from(text), { bodyBytes: text.length, depth: 8, batch: 1 }) as Request
}
