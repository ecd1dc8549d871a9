import { newId } from '../../ids.ts'
import type { Write } from '../../store/store.ts'
import type { Tables } from '../../store/tables.ts'
import type { AccountTable, DirectoryGroupTable } from '../../store/tables-identity.ts'
import { giveAgain } from '../directory/gifts.ts'
import { type PeopleParts, reduceRights } from '../directory/people.ts'
import { invalid, ScimError, takenAlready, unknown } from './errors.ts'
import type { Comparison } from './filter.ts'
import { listed, type Page, type Searches, searched } from './listing.ts'
import { type Attributes, isObject, type Json, keyIn, type Operation, patched } from './patch.ts'
import { GROUP } from './schemas.ts'
import { inTurn, Overtaken, onceMore, overtaken, type Turns, unlessLast } from './turns.ts'
import type { Speaking } from './users.ts'

const MOST_MEMBERS = 20_000
const MOST_GROUPS = 10_000
/** Values in one statement. */
const CHUNK = 500
/** Names in a record. */
const NAMED = 50

interface Written {
  readonly displayName: string
  readonly externalId: string | null
  /** ids of accounts */
  readonly members: ReadonlySet<string>
}

function read(body: Attributes): Written {
  const displayName = body[keyIn(body, 'displayName')]
  if (typeof displayName !== 'string' || displayName === '' || displayName.length > 256)
    throw invalid('`displayName` is text of at most 256 characters.')
  const externalId = body[keyIn(body, 'externalId')]
  const members = body[keyIn(body, 'members')] ?? []
  if (!Array.isArray(members)) throw invalid('`members` is a list.')
  if (members.length > MOST_MEMBERS) throw new ScimError(413, `A group has at most ${MOST_MEMBERS} members.`)
  return {
    displayName,
    externalId: typeof externalId === 'string' && externalId !== '' ? externalId.slice(0, 256) : null,
    members: new Set(
      (members as readonly Json[]).map((one) => {
        if (!isObject(one) || typeof one.value !== 'string') throw invalid('A member has a `value`.')
        return one.value
      }),
    ),
  }
}

const SEARCHES: Searches<Tables, 'directory_groups', DirectoryGroupTable> = {
  displayname: (query, value) => query.where('display_name', '=', String(value)),
  externalid: (query, value) => query.where('external_id', '=', String(value)),
  id: (query, value) => query.where('id', '=', String(value)),
  members: (query, value) =>
    query.where('id', 'in', (db) => db.selectFrom('directory_members').select('group_id').where('account_id', '=', String(value))),
  'members.value': (query, value) => SEARCHES.members!(query, value),
}

export function openGroups(parts: PeopleParts, turn: Turns) {
  const { store, audit, clock, raised } = parts
  const all = (directory: string) => store.db.selectFrom('directory_groups').selectAll().where('directory', '=', directory)

  async function find(directory: string, id: string): Promise<DirectoryGroupTable> {
    const row = await all(directory).where('id', '=', id).executeTakeFirst()
    if (!row) throw unknown()
    return row
  }

  const membersOf = (id: string) =>
    store.db
      .selectFrom('directory_members')
      .innerJoin('accounts', 'accounts.id', 'directory_members.account_id')
      .select(['accounts.id', 'accounts.user_name'])
      .where('group_id', '=', id)
      .orderBy('accounts.id')
      .execute()

  async function shown({ base }: Speaking, row: DirectoryGroupTable, withMembers = true): Promise<Attributes> {
    return {
      schemas: [GROUP],
      id: row.id,
      ...(row.external_id === null ? {} : { externalId: row.external_id }),
      displayName: row.display_name,
      ...(withMembers ? { members: (await membersOf(row.id)).map((one) => ({ value: one.id, display: one.user_name })) } : {}),
      meta: {
        resourceType: 'Group',
        created: new Date(row.created_at).toISOString(),
        lastModified: new Date(row.updated_at).toISOString(),
        location: `${base}/Groups/${row.id}`,
      },
    }
  }

  /** Members must be users of this very directory: another one's are none of its business. */
  async function assertMembers(directory: string, ids: readonly string[]): Promise<void> {
    for (let from = 0; from < ids.length; from += CHUNK) {
      const some = ids.slice(from, from + CHUNK)
      const rows = await store.db
        .selectFrom('accounts')
        .select('id')
        .where('directory', '=', directory)
        .where('deleted_at', 'is', null)
        .where('id', 'in', some)
        .execute()
      if (rows.length !== some.length) throw invalid('A member is no user of this directory.')
    }
  }

  async function save(
    speaking: Speaking,
    before: DirectoryGroupTable | undefined,
    { displayName, externalId, members }: Written,
  ): Promise<DirectoryGroupTable> {
    const { directory, spec } = speaking
    const now = clock.now()
    const old = new Set(before ? (await membersOf(before.id)).map(({ id }) => id) : [])
    const added = [...members].filter((id) => !old.has(id))
    const removed = [...old].filter((id) => !members.has(id))
    const external = externalId ?? before?.external_id ?? null
    if (before && before.display_name === displayName && before.external_id === external && added.length + removed.length === 0) return before
    await assertMembers(directory, added)
    const other = await all(directory).where('display_name', '=', displayName).executeTakeFirst()
    if (other && other.id !== before?.id) throw takenAlready('There is a group with this displayName.')
    const row: DirectoryGroupTable = {
      id: before?.id ?? newId('grp', now),
      directory,
      external_id: external,
      display_name: displayName,
      created_at: before?.created_at ?? now,
      // Two changes of one millisecond are two.
      updated_at: before ? Math.max(now, before.updated_at + 1) : now,
    }
    const change = {
      type: 'directory.changed',
      data: {
        directory,
        what: before ? 'group changed' : 'group came',
        group: displayName,
        ...(before && before.display_name !== displayName ? { before: before.display_name } : {}),
        added: added.slice(0, NAMED),
        removed: removed.slice(0, NAMED),
        ...(added.length > NAMED || removed.length > NAMED ? { more: true } : {}),
      },
    } as const
    await audit.append(change)
    // Another name is another group, as far as roles go.
    const touched = before && before.display_name !== displayName ? [...new Set([...old, ...added])] : [...added, ...removed]
    const put = async (trx: Write) => {
      await inTurn(trx, directory)
      if (before) {
        const { numUpdatedRows } = await trx
          .updateTable('directory_groups')
          .set(row)
          .where('id', '=', row.id)
          .where('updated_at', '=', before.updated_at)
          .executeTakeFirstOrThrow()
        if (numUpdatedRows !== 1n) throw new Overtaken('group')
      } else {
        const { numInsertedOrUpdatedRows } = await trx
          .insertInto('directory_groups')
          .values(row)
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirstOrThrow()
        if (numInsertedOrUpdatedRows !== 1n) throw takenAlready('There is a group with this displayName.')
      }
      for (let from = 0; from < removed.length; from += CHUNK)
        await trx
          .deleteFrom('directory_members')
          .where('group_id', '=', row.id)
          .where('account_id', 'in', removed.slice(from, from + CHUNK))
          .execute()
      for (let from = 0; from < added.length; from += CHUNK)
        await trx
          .insertInto('directory_members')
          .values(added.slice(from, from + CHUNK).map((account_id) => ({ group_id: row.id, account_id })))
          .onConflict((conflict) => conflict.doNothing())
          .execute()
      if (spec.groups === 'scim') await giveMembers(trx, speaking, touched, now)
    }
    const renamed = before !== undefined && before.display_name !== displayName
    // Whoever only joins a group loses nothing: nobody is asked then whether an administrator is left.
    const done = renamed || removed.length > 0 ? unlessLast(reduceRights(parts, change, put)) : store.reduce(put)
    const { epoch } = await done.catch((error: unknown) => overtaken(audit, change, error))
    await raised(epoch)
    return row
  }

  async function giveMembers(trx: Write, { directory, spec }: Speaking, ids: readonly string[], now: number): Promise<void> {
    const accounts: AccountTable[] = []
    for (let from = 0; from < ids.length; from += CHUNK)
      accounts.push(
        ...(await trx
          .selectFrom('accounts')
          .selectAll()
          .where('id', 'in', ids.slice(from, from + CHUNK))
          .execute()),
      )
    await giveAgain(trx, directory, spec, accounts, now)
  }

  return {
    list: (speaking: Speaking, filter: readonly Comparison[], page: Page, withMembers: boolean) =>
      listed(searched('Groups', SEARCHES, all(speaking.directory), filter), page, (row) => shown(speaking, row, withMembers)),
    get: async (speaking: Speaking, id: string, withMembers: boolean) => shown(speaking, await find(speaking.directory, id), withMembers),
    async create(speaking: Speaking, body: Attributes) {
      const { count } = await store.db
        .selectFrom('directory_groups')
        .select((row) => row.fn.countAll<number>().as('count'))
        .where('directory', '=', speaking.directory)
        .executeTakeFirstOrThrow()
      if (Number(count) >= MOST_GROUPS) throw new ScimError(413, `A directory has at most ${MOST_GROUPS} groups here.`)
      return shown(speaking, await save(speaking, undefined, read(body)))
    },
    replace: (speaking: Speaking, id: string, body: Attributes) =>
      onceMore(turn, speaking.directory, async () => shown(speaking, await save(speaking, await find(speaking.directory, id), read(body)))),
    patch: (speaking: Speaking, id: string, operations: readonly Operation[]) =>
      onceMore(turn, speaking.directory, async () => {
        const row = await find(speaking.directory, id)
        const before: Attributes = {
          displayName: row.display_name,
          externalId: row.external_id,
          members: (await membersOf(id)).map((one) => ({ value: one.id })),
        }
        return shown(speaking, await save(speaking, row, read(patched(before, operations))))
      }),
    async remove(speaking: Speaking, id: string) {
      const { directory, spec } = speaking
      const row = await find(directory, id)
      const members = (await membersOf(id)).map((one) => one.id)
      const change = {
        type: 'directory.changed',
        data: { directory, what: 'group deleted', group: row.display_name, removed: members.slice(0, NAMED) },
      } as const
      await audit.append(change)
      const put = async (trx: Write) => {
        await inTurn(trx, directory)
        await trx.deleteFrom('directory_members').where('group_id', '=', id).execute()
        await trx.deleteFrom('directory_groups').where('id', '=', id).execute()
        if (spec.groups === 'scim') await giveMembers(trx, speaking, members, clock.now())
      }
      const { epoch } = await unlessLast(reduceRights(parts, change, put))
      await raised(epoch)
    },
  }
}
