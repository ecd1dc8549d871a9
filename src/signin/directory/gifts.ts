import type { DirectorySpec } from '../../catalog/directory.ts'
import { give } from '../../identity/given.ts'
import type { Database, Write } from '../../store/store.ts'
import type { AccountTable } from '../../store/tables-identity.ts'

type Account = Pick<AccountTable, 'id' | 'directory' | 'identity_id' | 'groups' | 'active' | 'deleted_at'>

/** The groups of an account, from where the directory says that they come. */
export async function groupsOf(
  db: Database | Write,
  { groups }: Pick<DirectorySpec, 'groups'>,
  account: Pick<AccountTable, 'id' | 'groups'>,
): Promise<readonly string[]> {
  if (groups !== 'scim') return JSON.parse(account.groups) as string[]
  const rows = await db
    .selectFrom('directory_members')
    .innerJoin('directory_groups', 'directory_groups.id', 'directory_members.group_id')
    .select('directory_groups.display_name')
    .where('directory_members.account_id', '=', account.id)
    .orderBy('directory_groups.display_name')
    .execute()
  return rows.map((row) => row.display_name)
}

export function rolesOfGroups({ roles }: Pick<DirectorySpec, 'roles'>, groups: readonly string[]): readonly string[] {
  // Own keys only: a group may be called `constructor`.
  return [...new Set(['*', ...groups].flatMap((group) => (Object.hasOwn(roles, group) ? roles[group]! : [])))]
}

/** What the directory gives this person now. `traits` undefined: those that it gave before. May reduce rights: inside `store.reduce`. Returns whether anything changed. */
export async function giveTo(
  trx: Write,
  directory: string,
  spec: DirectorySpec | undefined,
  account: Account,
  traits: Readonly<Record<string, unknown>> | undefined,
  now: number,
): Promise<boolean> {
  const gift = isGiven(spec, account) ? { roles: rolesOfGroups(spec, await groupsOf(trx, spec, account)), traits } : undefined
  return (await give(trx, directory, new Map([[account.identity_id, gift]]), now)) > 0
}

const isGiven = (spec: DirectorySpec | undefined, { active, deleted_at }: Account): spec is DirectorySpec =>
  spec !== undefined && active === 1 && deleted_at === null

/** Accounts in one statement. */
const CHUNK = 500

/** The same for many at once; their traits stay. */
export async function giveAgain(
  trx: Write,
  directory: string,
  spec: DirectorySpec | undefined,
  accounts: readonly Account[],
  now: number,
): Promise<void> {
  const groups = new Map<string, string[]>()
  if (spec?.groups === 'scim')
    for (let from = 0; from < accounts.length; from += CHUNK) {
      const rows = await trx
        .selectFrom('directory_members')
        .innerJoin('directory_groups', 'directory_groups.id', 'directory_members.group_id')
        .select(['directory_members.account_id', 'directory_groups.display_name'])
        .where(
          'directory_members.account_id',
          'in',
          accounts.slice(from, from + CHUNK).map(({ id }) => id),
        )
        .orderBy('directory_groups.display_name')
        .execute()
      for (const row of rows) groups.set(row.account_id, [...(groups.get(row.account_id) ?? []), row.display_name])
    }
  const gifts = accounts.map((account) => {
    const his = spec?.groups === 'scim' ? (groups.get(account.id) ?? []) : (JSON.parse(account.groups) as string[])
    return [account.identity_id, isGiven(spec, account) ? { roles: rolesOfGroups(spec, his) } : undefined] as const
  })
  await give(trx, directory, new Map(gifts), now)
}

/** The directory's document has changed, or is gone: everybody's gifts follow. Traits follow at the next sign-in or SCIM change. Inside `store.reduce`. */
export async function regrant(trx: Write, directory: string, spec: DirectorySpec | undefined, now: number): Promise<void> {
  const accounts = await trx.selectFrom('accounts').selectAll().where('directory', '=', directory).execute()
  await giveAgain(trx, directory, spec, accounts, now)
}
