import { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import { administer, factorRequired, hasFreshFactor } from '../administration.ts'
import { draftAction } from '../drafts.ts'
import { type RequestParts, whoActs } from './parts.ts'

/** Only a person, himself, by a sign-in of his own, with a factor that what acts for him cannot reach (design 3.3). */
export async function assertHimself(parts: RequestParts, session: LiveSession, verb: 'approve' | 'lock', summary: string): Promise<void> {
  const { principal } = session
  if (principal.kind !== 'user' || principal.chain.length !== 1 || principal.proof === 'bearer') {
    throw await refused(
      parts,
      session,
      verb,
      summary,
      new ChaperoneError('approval_refused', 'Only a person himself, signed in, decides about requests.'),
    )
  }
  if (hasFreshFactor(session, parts.clock.now())) return
  throw await refused(parts, session, verb, summary, factorRequired())
}

/** Records that somebody tried, and gives back why he may not. */
export async function refused(
  parts: RequestParts,
  session: LiveSession,
  verb: 'approve' | 'lock',
  summary: string,
  error: ChaperoneError,
): Promise<ChaperoneError> {
  await parts.audit.append({
    type: 'action.refused',
    ...whoActs(parts, session),
    action: draftAction(administer(parts.chaperone, verb, summary)),
    decision: { verdict: 'deny', reason: error.code, link: session.principal.name, obligations: {} },
  })
  return error
}
