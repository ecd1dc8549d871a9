import { createHash, createHmac } from 'node:crypto'
import { MOST_SHOWN_BYTES } from '../access/requests/shown.ts'
import type { Asking, ExactCall, Shown } from '../access/types.ts'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { ChaperoneError } from '../errors.ts'
import type { ApiParts } from './parts.ts'
import type { AskedInSession, SessionRoute } from './route.ts'

/** What is read of a change: all of it, hidden by nothing but `secretBody`. */
type Read = Pick<Shown, 'title' | 'text'>

/** What would be done exactly, where the body does not say it: all that makes it this and no other, and what is read of it. */
export interface Exactly {
  readonly bound: unknown
  readonly shown: readonly Read[]
  /** What is wished for, where the body has more in it than that; default: the body. */
  readonly wish?: unknown
  /** It would change nothing: nobody is asked. */
  readonly nothing?: true
}

/** Whether a request changes anything. Who only looks gives no factor, and nobody is asked about it. */
export const changes = (route: Pick<SessionRoute<unknown>, 'factor' | 'method'>, body: unknown): boolean =>
  route.factor ? route.factor(body) : route.method !== 'GET'

/**
 * A change of Chaperone itself about which a rule asks somebody else: its exact call is the request as it came, with its parameters
 * and its body. `text` is the body as it came; `exact` is what the route says of it, where it does.
 */
export function askingOf(
  { keyring }: Pick<ApiParts, 'keyring'>,
  route: SessionRoute<unknown>,
  asked: Omit<AskedInSession<unknown>, 'exactly'>,
  text: string,
  exact: Promise<Exactly> | undefined,
): Asking {
  return {
    async call(): Promise<ExactCall> {
      const { method, path } = route
      const request = { method, path, params: asked.params, query: [...asked.query].sort() }
      // What is wrong with it would be wrong after a yes as well: then nobody is asked, and the refusal is recorded.
      const exactly = await exact
      // What nobody may read is bound by a hash that nobody without the keys can try values against.
      const body = route.secretBody ? { hmac: await keyed(text) } : (asked.body ?? null)
      const shown = [
        { title: 'Request', text: `${route.summary?.(asked) ?? `${method} ${path}`}` },
        ...(exactly?.shown ?? (route.secretBody ? SECRET : shownBody(asked))),
      ].map((part) => ({ ...part, form: 'exact' as const }))
      const size = shown.reduce((sum, part) => sum + Buffer.byteLength(part.text), 0)
      // A person who says yes to a change of everybody's rights reads all of it (rule 12).
      if (size > MOST_SHOWN_BYTES)
        throw new ChaperoneError(
          'approval_unavailable',
          `Somebody must say yes to this, and it is too long to be read whole: ${size} bytes of changes.`,
          {
            fix: `Do it in parts of at most ${MOST_SHOWN_BYTES / 1024} KiB.`,
          },
        )
      const wish = exactly && !route.secretBody ? { wish: sha256(canonicalJson({ ...request, body: exactly.wish ?? body })) } : {}
      return { bound: canonicalJson({ ...request, what: exactly ? exactly.bound : body }), shown, ...wish }
    },
  }

  async function keyed(value: string): Promise<string> {
    return createHmac('sha256', await keyring.derive('values', 'administration asked'))
      .update(value)
      .digest('hex')
  }
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

const SECRET: readonly Read[] = [{ title: 'Value', text: 'is shown to nobody; the one that was sent is the one that counts' }]

const shownBody = ({ body }: { readonly body: unknown }): readonly Read[] =>
  body === undefined ? [] : [{ title: 'With', text: JSON.stringify(body, null, 2) }]
