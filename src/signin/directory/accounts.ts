import type { DirectorySpec } from '../../catalog/directory.ts'
import { ChaperoneError } from '../../errors.ts'
import { createIdentity, findIdentity, type IdentityRecord } from '../../identity/directory.ts'
import { isName } from '../../identity/names.ts'
import { newId } from '../../ids.ts'
import type { Database, Write } from '../../store/store.ts'
import type { AccountTable } from '../../store/tables-identity.ts'

/** A `sub` says who somebody is only at its own issuer (OpenID Connect Core 5.7): the same directory document with another issuer knows nobody yet. */
export const subjectKey = (issuer: string, sub: string): string => `${issuer} ${sub}`

/** Which account this is, as far as its directory can say. */
export interface Known {
  /** `subjectKey` */
  readonly subject?: string
  readonly externalId?: string
  readonly userName: string
  readonly email?: string
}

/** Upper case is no difference, and that is all: `\u212a` (Kelvin) in lower case is a `k`, and whoever can write it into his account is not mike. */
const folded = (text: string): string => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase())

/**
 * The name that a person gets here from what the directory calls him. Throws `directory_refused`: a name is never bent into shape, for
 * then two people could ask for the same one.
 */
export function nameFrom({ name: { domain } }: Pick<DirectorySpec, 'name'>, userName: string): string {
  const lower = folded(userName)
  const at = lower.lastIndexOf('@')
  const refused = (why: string, fix: string) =>
    new ChaperoneError('directory_refused', `${JSON.stringify(userName.slice(0, 80))} gives no name here: ${why}.`, { fix })
  if (domain !== undefined && lower.slice(at + 1) !== domain)
    throw refused(`it does not end in @${domain}`, 'Have an administrator make the person known with a document that names this account.')
  const name = domain === undefined ? lower : lower.slice(0, at)
  if (isName('user', name)) return name
  throw refused(
    at >= 0 && domain === undefined
      ? 'it is an address, and the directory does not say of which domain'
      : 'names have letters, digits, `.`, `_` and `-`',
    at >= 0 && domain === undefined
      ? 'Write `name: {claim: ..., domain: example.com}` in the directory document.'
      : 'Have an administrator make the person known with a document that names this account.',
  )
}

/** The person whom an administrator's document says to be this account; undefined when none does. */
export async function namedByDocument(
  trx: Database | Write,
  directory: string,
  { subject, userName }: { readonly subject?: string; readonly userName: string },
): Promise<IdentityRecord | undefined> {
  const rows = await trx.selectFrom('documents').select(['name', 'spec']).where('kind', '=', 'user').where('spec', 'like', '%"account":%').execute()
  const found = rows.filter(({ spec }) => {
    const { account } = JSON.parse(spec) as { account?: { directory: string; subject?: string; user_name?: string } }
    if (account?.directory !== directory) return false
    if (account.subject !== undefined) return account.subject === subject
    return account.user_name !== undefined && folded(account.user_name) === folded(userName)
  })
  // Two documents that name one account: whichever was meant, one of them is wrong.
  if (found.length > 1)
    throw new ChaperoneError('directory_refused', 'Two documents say that this account is theirs.', {
      detail: found.map(({ name }) => name).join(', '),
      fix: 'An administrator mends the documents.',
    })
  return found[0] && findIdentity(trx, { name: found[0].name })
}

/** Adds the account of a person; of two who do it at once, one is refused with `conflict`. */
export async function addAccount(
  trx: Write,
  directory: string,
  known: Known,
  identity: IdentityRecord,
  more: Pick<AccountTable, 'data' | 'groups'> & { readonly active?: boolean; readonly now: number },
): Promise<AccountTable> {
  const row: AccountTable = {
    id: newId('acc', more.now),
    directory,
    subject: known.subject ?? null,
    identity_id: identity.id,
    external_id: known.externalId ?? null,
    user_name: known.userName,
    email: known.email ?? null,
    data: more.data,
    groups: more.groups,
    active: more.active === false ? 0 : 1,
    created_at: more.now,
    updated_at: more.now,
    last_login_at: null,
    deleted_at: null,
  }
  const { numInsertedOrUpdatedRows } = await trx
    .insertInto('accounts')
    .values(row)
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirstOrThrow()
  if (numInsertedOrUpdatedRows !== 1n) throw new ChaperoneError('conflict', 'This account is known already.')
  return row
}

/** The person for a new account: the one that a document names, or a new one. Throws `directory_refused`, `conflict`. */
export async function personFor(
  trx: Write,
  directory: string,
  spec: DirectorySpec,
  known: Known,
  sub: string | undefined,
  now: number,
): Promise<IdentityRecord> {
  const named = await namedByDocument(trx, directory, { userName: known.userName, ...(sub === undefined ? {} : { subject: sub }) })
  if (named) {
    const other = await trx
      .selectFrom('accounts')
      .select('id')
      .where('directory', '=', directory)
      .where('identity_id', '=', named.id)
      .where('deleted_at', 'is', null)
      .executeTakeFirst()
    // Otherwise whoever is given a name that was given up at the company would come in as the one who had it before.
    if (other)
      throw new ChaperoneError('directory_refused', `${named.name} has another account of ${directory} already.`, {
        fix: 'An administrator looks at which of the two is right.',
      })
    return named
  }
  return createIdentity(trx, { kind: 'user', name: nameFrom(spec, known.userName), source: 'directory', now })
}
