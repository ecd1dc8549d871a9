import type { DirectorySpec } from '../../catalog/directory.ts'
import { findIdentity } from '../../identity/directory.ts'
import type { AccountTable } from '../../store/tables-identity.ts'
import type { Introduced } from './claims.ts'
import { giveTo, groupsOf, rolesOfGroups } from './gifts.ts'
import { changed, givesOther, LastAdministrator, type PeopleParts, reduceRights } from './people.ts'

/** What a directory has just said of somebody holds from now on: groups that are lost take their roles with them. */
export type Follow = (
  name: string,
  spec: DirectorySpec,
  account: AccountTable,
  told: Introduced,
  how: { readonly signedIn: boolean },
) => Promise<void>

export function followWith(parts: PeopleParts): Follow {
  const { store, audit, clock, raised } = parts
  return async (name, spec, account, told, { signedIn }) => {
    const now = clock.now()
    const came = signedIn ? { last_login_at: now } : {}
    const seen = {
      ...{ user_name: told.userName, email: told.email ?? null, updated_at: now, ...came },
      ...(spec.groups === 'scim' ? {} : { groups: JSON.stringify(told.groups) }),
    }
    const next = { ...account, ...seen }
    const gift = { roles: rolesOfGroups(spec, await groupsOf(store.db, spec, next)), traits: told.traits }
    if (!(await givesOther(store.db, account.identity_id, name, gift))) {
      await store.write((trx) => trx.updateTable('accounts').set(seen).where('id', '=', account.id).execute())
      return
    }
    const person = await findIdentity(store.db, { id: account.identity_id })
    if (!person) return
    const more = { account: account.id, roles: gift.roles, traits: gift.traits, groups: told.groups.slice(0, 50) }
    const change = changed(name, person, 'roles and traits', more)
    await audit.append(change)
    try {
      const { epoch } = await reduceRights(parts, change, async (trx) => {
        await trx.updateTable('accounts').set(seen).where('id', '=', account.id).execute()
        await giveTo(trx, name, spec, next, told.traits, now)
      })
      await raised(epoch)
    } catch (error) {
      // The last administrator keeps what he had, and comes in: there is nobody else who could mend it.
      if (!(error instanceof LastAdministrator)) throw error
      if (signedIn) await store.write((trx) => trx.updateTable('accounts').set(came).where('id', '=', account.id).execute())
    }
  }
}
