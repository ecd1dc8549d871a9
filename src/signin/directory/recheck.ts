import { type DirectorySpec, directorySpec } from '../../catalog/directory.ts'
import { parseDuration } from '../../encoding/duration.ts'
import { ChaperoneError, REASONS, toChaperoneError } from '../../errors.ts'
import { findIdentity } from '../../identity/directory.ts'
import type { EndReason } from '../../identity/end-reasons.ts'
import type { Keyring } from '../../keys/types.ts'
import type { DirectorySigninTable } from '../../store/tables-identity.ts'
import { subjectKey } from './accounts.ts'
import { type Claims, toldBy } from './claims.ts'
import { followWith } from './follow.ts'
import type { AskedAgain, Providers } from './openid.ts'
import { changed, type PeopleParts } from './people.ts'
import { type SignIns, sealedAs } from './sign-ins.ts'

export interface RecheckParts extends PeopleParts {
  readonly keyring: Pick<Keyring, 'seal' | 'open'>
  readonly providers: Pick<Providers, 'askAgain'>
  readonly signIns: Pick<SignIns, 'running' | 'end'>
  readonly documents: () => readonly { readonly name: string; readonly spec: unknown }[]
  readonly failed: (error: ChaperoneError) => void
}

/** In one round; what is left comes with the next one. */
const MOST = 500
/** At once. */
const WIDTH = 4
/** A provider that could not be asked is asked again after this, and so is one whose answer never arrived here. */
const RETRY_MS = 60_000

type Row = DirectorySigninTable

/**
 * Asks the providers again whether the people who are signed in still may (`recheck`), with the refresh token of each sign-in. A no ends
 * what came of it. One that cannot be asked ends nothing at once; when it has said nothing for `recheck` and `recheck_grace`, that is a no.
 */
export function openRecheck(parts: RecheckParts): { readonly round: () => Promise<void> } {
  const { store, audit, keyring, clock, providers, signIns } = parts
  const follow = followWith(parts)
  const set = (row: Row, values: Partial<Row>) =>
    store.write((trx) => trx.updateTable('directory_signins').set(values).where('id', '=', row.id).where('ended_at', 'is', null).execute())

  async function endFor(row: Row, reason: EndReason, what: string, why: string): Promise<void> {
    const person = await findIdentity(store.db, { id: row.identity_id })
    if (person) await audit.append(changed(row.directory, person, what, { signIn: row.id, subject: row.subject, why }))
    await signIns.end([row], reason)
  }

  /** Of several nodes one asks: a refresh token that is used twice is taken for a stolen one. */
  async function claimed(row: Row): Promise<boolean> {
    const { numUpdatedRows } = await store.write((trx) =>
      trx
        .updateTable('directory_signins')
        .set({ next_at: clock.now() + RETRY_MS })
        .where('id', '=', row.id)
        .where('next_at', '=', row.next_at)
        .executeTakeFirstOrThrow(),
    )
    return numUpdatedRows === 1n
  }

  async function look(row: Row, silent: Map<string, string>): Promise<void> {
    if (!(await claimed(row))) return
    if (row.ended_at !== null) return void (await signIns.end([row], (row.end_reason ?? 'provider') as EndReason))
    const found = parts.documents().find(({ name }) => name === row.directory)
    const spec = found && directorySpec.parse(found.spec)
    // Nobody wants it asked any more; and without the token nobody could.
    if (spec?.recheck === undefined) return void (await set(row, { refresh: null, next_at: null }))
    // Nothing may begin by it any more, or that would not be asked about.
    if ((await signIns.running([row])).length === 0) return void (await signIns.end([row], 'logout'))
    if (spec.issuer !== row.issuer) return endFor(row, 'unchecked', 'cannot be asked', 'the directory has another issuer now')
    const down = silent.get(row.directory)
    const asked: AskedAgain = down === undefined ? await ask(row, spec) : { said: 'nothing', why: down }
    if (asked.said === 'no') return endFor(row, 'provider', 'let in no more', asked.why)
    if (asked.said === 'yes') return goOn(row, spec, asked)
    if (down === undefined)
      parts.failed(new ChaperoneError('upstream_unavailable', `${row.directory} could not be asked again.`, { detail: asked.why }))
    silent.set(row.directory, asked.why)
    if (clock.now() - row.checked_at >= parseDuration(spec.recheck) + parseDuration(spec.recheck_grace))
      await endFor(row, 'unchecked', 'could not be asked', asked.why)
  }

  async function ask(row: Row, spec: DirectorySpec): Promise<AskedAgain> {
    try {
      const refresh = (await keyring.open('vault', row.refresh!, sealedAs(row.id))).toString('utf8')
      return await providers.askAgain(row.directory, spec, { refresh, subject: row.subject })
    } catch (error) {
      return { said: 'nothing', why: toChaperoneError(error).message }
    }
  }

  async function goOn(row: Row, spec: DirectorySpec, { refresh, claims }: AskedAgain & { readonly said: 'yes' }): Promise<void> {
    const now = clock.now()
    // Before anything else: the one of before may be used up.
    const sealed = await keyring.seal('vault', refresh, sealedAs(row.id))
    await set(row, { refresh: sealed, checked_at: now, next_at: now + parseDuration(spec.recheck!) })
    if (claims === undefined) return
    const refused = await followed(row, spec, claims)
    if (refused) await endFor(row, 'provider', 'let in no more', `${refused.message} ${refused.detail ?? ''}`.trim())
  }

  /** What it says of him now holds as at a sign-in: his groups, and the claims by which he may come in at all. */
  async function followed(row: Row, spec: DirectorySpec, claims: Claims): Promise<ChaperoneError | undefined> {
    try {
      const told = toldBy(spec, claims, clock.now())
      const account = await store.db
        .selectFrom('accounts')
        .selectAll()
        .where('directory', '=', row.directory)
        .where('subject', '=', subjectKey(row.issuer, row.subject))
        .executeTakeFirst()
      if (account) await follow(row.directory, spec, account, told, { signedIn: false })
      return undefined
    } catch (error) {
      const known = toChaperoneError(error)
      if (known.code !== 'directory_refused' || REASONS[known.code].http >= 500) throw error
      return known
    }
  }

  return {
    async round() {
      const rows = await store.db
        .selectFrom('directory_signins')
        .selectAll()
        .where('next_at', '<=', clock.now())
        .orderBy('next_at')
        .limit(MOST)
        .execute()
      /** Directories that have not answered in this round, and why: the next one is not waited for as well. */
      const silent = new Map<string, string>()
      const left = rows[Symbol.iterator]()
      await Promise.all(
        Array.from({ length: WIDTH }, async () => {
          for (const row of left) await look(row, silent).catch((error: unknown) => parts.failed(toChaperoneError(error)))
        }),
      )
    },
  }
}
