import { FACTOR_FRESH_MS } from '../access/administration.ts'
import { type DirectorySpec, directorySpec } from '../catalog/directory.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import type { LiveSession } from '../identity/types.ts'
import type { Store } from '../store/store.ts'
import { hasFactor } from './factor.ts'

/** How somebody is signed in, and what counts as his second step therefore: the one place that says so. */
export interface Standing {
  /**
   * What a yes takes of him now:
   *
   *   factor     a code or a passkey of ours
   *   directory  nothing more: his company has asked for its own second factor a moment ago
   *   nothing    he has no factor yet, and signed in at his company a moment ago
   *   again      he must sign in at the company anew
   *   unvouched  he has just done so, and it said nothing of a second factor, which alone would count
   */
  readonly needs: 'factor' | 'directory' | 'nothing' | 'again' | 'unvouched'
  /** Whether he may set up a first factor of his own now; `late`: when he signs in anew. */
  readonly begin: 'yes' | 'late' | 'no'
  /** The directory whose second factor alone counts for him (`factor: directory`). */
  readonly only?: string
}

export interface StandingParts {
  readonly store: Store
  readonly clock: Clock
  /** The `directory` documents that hold now. */
  readonly documents: () => readonly { readonly name: string; readonly spec: unknown }[]
}

export type StandingOf = (session: LiveSession) => Promise<Standing>

/** Throws `factor_required` when factors of ours count for nothing with this person, because a directory says `factor: directory`. */
export type OwnCounts = (identityId: string) => Promise<void>

export function openStanding({ store, clock, documents }: StandingParts): { readonly standingOf: StandingOf; readonly ownCounts: OwnCounts } {
  const factorOf = (directory: string | undefined): DirectorySpec['factor'] => {
    const found = directory === undefined ? undefined : documents().find(({ name }) => name === directory)
    return found ? directorySpec.parse(found.spec).factor : 'own'
  }

  /** Of the person and not of a session: a code of ours, by which he came in elsewhere, must not stand in for his company's. */
  async function onlyOf(identityId: string): Promise<string | undefined> {
    const rows = await store.db
      .selectFrom('accounts')
      .select('directory')
      .where('identity_id', '=', identityId)
      .where('deleted_at', 'is', null)
      .execute()
    return rows.map(({ directory }) => directory).find((directory) => factorOf(directory) === 'directory')
  }

  async function ownCounts(identityId: string): Promise<void> {
    const only = await onlyOf(identityId)
    if (only !== undefined) throw companyOnly(only)
  }

  const standingOf: StandingOf = async (session) => {
    const { principal } = session
    const [own, only, row] = await Promise.all([
      hasFactor(store.db, principal.identityId),
      onlyOf(principal.identityId),
      store.db.selectFrom('sessions').select(['joined', 'factor_at', 'factor_by']).where('id', '=', session.id).executeTakeFirst(),
    ])
    const joined = typeof row?.joined === 'string' ? (JSON.parse(row.joined) as { method: string; document: string }) : undefined
    const came = joined?.method === 'directory' ? joined.document : undefined
    const recent = (at: number | null | undefined) => typeof at === 'number' && clock.now() - at <= FACTOR_FRESH_MS
    const fresh = came !== undefined && recent(session.startedAt)
    const vouched = row?.factor_by === 'directory' && recent(row.factor_at) && factorOf(came) !== 'own'
    if (only !== undefined)
      return { needs: vouched && came === only ? 'directory' : fresh && came === only ? 'unvouched' : 'again', begin: 'no', only }
    // Nothing of his own yet: what he gave at the directory a moment ago must do, and a cookie of this morning does not.
    const needs = vouched ? 'directory' : own ? 'factor' : fresh ? 'nothing' : 'again'
    // Only who has none: a cookie that was stolen must not put the thief's factor in the place of the person's.
    const person = principal.kind === 'user' && principal.chain.length === 1
    return { needs, begin: own || !person ? 'no' : fresh ? 'yes' : 'late' }
  }
  return { standingOf, ownCounts }
}

/** The same as a question. */
export const doesCount = (ownCounts: OwnCounts, identityId: string): Promise<boolean> =>
  ownCounts(identityId).then(
    () => true,
    (error: unknown) => {
      if (toChaperoneError(error).code !== 'factor_required') throw error
      return false
    },
  )

export const companyOnly = (directory: string) =>
  new ChaperoneError('factor_required', `Your second step is the sign-in at ${directory}, and no code or passkey of Chaperone.`, {
    fix: `Sign in there again, and do this within five minutes: on the sign-in page, or with chaperone login --with ${directory}`,
  })

export const tooLongAgo = () =>
  new ChaperoneError('factor_required', 'You signed in too long ago for this.', {
    fix: 'Sign out, sign in again, and open the link once more.',
  })

export const notVouched = (directory: string | undefined) =>
  new ChaperoneError('factor_required', `The sign-in at ${directory ?? 'the company'} said nothing of a second factor, and only that counts here.`, {
    fix: 'Sign in there with a second factor; if you did, whoever administers Chaperone compares `factor_values` with what the provider says in `amr` and `acr`.',
  })
