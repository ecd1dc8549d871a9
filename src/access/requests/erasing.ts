import { createHash } from 'node:crypto'
import { shortest, TIMES } from './machine.ts'
import type { CallWish, Need, RequestState, ShownPart, Wished } from './types.ts'

/** What was shown of a call is looked at afterwards, and not for ever: the record has its own rules about what is kept. */
const KEPT_AFTER_MS = 7 * 24 * 3_600_000

const OPEN: ReadonlySet<RequestState> = new Set(['pending', 'approved'])

/** What is asked, without what it would do it with: each part by its title and size, and its digest where a digest gives nothing away. */
export function erased(call: CallWish): CallWish {
  const withDigests = !call.fleeting
  const without = ({ title, text, cut, erased }: ShownPart): ShownPart => {
    const { size, sha256 } = cut ?? { size: Buffer.byteLength(text), sha256: createHash('sha256').update(text).digest('hex') }
    // A number of four digits is found behind its digest by trying.
    return { title, form: 'text', text: '', erased: erased ?? { size, ...(withDigests ? { sha256 } : {}) } }
  }
  return { ...call, shown: call.shown.map(without) }
}

/** When nothing shown of a call can be needed any more, whatever comes of it. Those whose values are not kept are over by then, or long before. */
export function eraseAt(now: number, needs: readonly Need[], { fleeting }: Pick<CallWish, 'fleeting'>): number {
  const over = now + shortest(needs, TIMES.callPendingMs) + shortest(needs, TIMES.callApprovedMs)
  return fleeting ? over : over + KEPT_AFTER_MS
}

/** What else changes in the row when a call comes to this state: one whose values are not kept forgets them with its end. */
export function forgotten({ kind, body }: Wished, state: RequestState | undefined): { body: string; erase_at: null } | undefined {
  if (kind !== 'call' || state === undefined || OPEN.has(state) || !body.fleeting) return undefined
  return { body: JSON.stringify(erased(body)), erase_at: null }
}
