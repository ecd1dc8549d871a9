import type { Expression, ExpressionBuilder, SqlBool } from 'kysely'
import type { DirectorySpec } from '../../catalog/directory.ts'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import { findIdentity, type IdentityRecord } from '../../identity/directory.ts'
import type { Database, Write } from '../../store/store.ts'
import type { Tables } from '../../store/tables.ts'
import type { AccountTable } from '../../store/tables-identity.ts'
import { addAccount, namedByDocument, nameFrom, personFor } from '../directory/accounts.ts'
import { traitsFrom } from '../directory/claims.ts'
import { giveTo, groupsOf, rolesOfGroups } from '../directory/gifts.ts'
import {
  changed,
  type DirectoryChange,
  endSessionsOf,
  givesOther,
  isHere,
  type PeopleParts,
  reduceRights,
  revivePerson,
  stopPerson,
} from '../directory/people.ts'
import { invalid, ScimError, takenAlready, unknown } from './errors.ts'
import type { Comparison } from './filter.ts'
import { listed, type Page, type Searches, searched } from './listing.ts'
import { type Attributes, isObject, type Json, keyIn, type Operation, patched } from './patch.ts'
import { ENTERPRISE, USER } from './schemas.ts'
import { inTurn, Overtaken, onceMore, overtaken, type Turns, unlessLast } from './turns.ts'

/** The directory that speaks, and what its document says. */
export interface Speaking {
  readonly directory: string
  readonly spec: DirectorySpec
  /** `https://<web>/scim/v2/<directory>` */
  readonly base: string
}

/** Beside the bound of a body: what one person may take up in the store. */
const LARGEST = 32 * 1024
const MOST_USERS = 50_000

/** What of a user has its own column, or is nobody's to write. A password is not kept in any form. */
const OWN = new Set(['schemas', 'id', 'meta', 'groups', 'username', 'externalid', 'active', 'password'])

/** Fields of a user that were read from what a directory sent. */
interface Written {
  readonly userName: string
  readonly externalId: string | undefined
  readonly active: boolean | undefined
  readonly data: Attributes
}

function textIn(body: Attributes, name: string, most: number): string | undefined {
  const value = body[keyIn(body, name)]
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value !== 'string' || value.length > most) throw invalid(`\`${name}\` is text of at most ${most} characters.`)
  return value
}

/** Entra writes "True" and "False" as text. */
function truthIn(value: Json | undefined): boolean | undefined {
  if (value === undefined || value === null) return undefined
  const text = String(value).toLowerCase()
  if (text !== 'true' && text !== 'false') throw invalid('`active` is true or false.')
  return text === 'true'
}

function read(body: Attributes): Written {
  const userName = textIn(body, 'userName', 256)
  if (userName === undefined) throw invalid('`userName` is missing.')
  const data = Object.fromEntries(Object.entries(body).filter(([key]) => !OWN.has(key.toLowerCase())))
  if (Buffer.byteLength(canonicalJson(data)) > LARGEST) throw new ScimError(413, `A user has at most ${LARGEST} bytes.`)
  return { userName, externalId: textIn(body, 'externalId', 256), active: truthIn(body[keyIn(body, 'active')]), data }
}

const emailIn = ({ emails }: Attributes): string | null => {
  const list = Array.isArray(emails) ? (emails as readonly Json[]).filter(isObject) : []
  const first = list.find((one) => one.primary === true) ?? list[0]
  return typeof first?.value === 'string' ? first.value.slice(0, 256) : null
}

/** Traits from what SCIM writes: an attribute by its name, of the user or of the enterprise extension. */
function traitsOf(spec: DirectorySpec, data: Attributes): Readonly<Record<string, unknown>> {
  const enterprise = data[ENTERPRISE]
  return traitsFrom(spec.traits, (name) => data[keyIn(data, name)] ?? (isObject(enterprise) ? enterprise[keyIn(enterprise, name)] : undefined))
}

/** Both sides by the store: SQLite knows lower case of ASCII alone, JavaScript that of everything, and what they write differently would never be found. */
const isCalled =
  (userName: string) =>
  (row: ExpressionBuilder<Tables, 'accounts'>): Expression<SqlBool> =>
    row(row.fn<string>('lower', ['user_name']), '=', row.fn<string>('lower', [row.val(userName)]))

const SEARCHES: Searches<Tables, 'accounts', AccountTable> = {
  username: (query, value) => query.where(isCalled(String(value))),
  externalid: (query, value) => query.where('external_id', '=', String(value)),
  id: (query, value) => query.where('id', '=', String(value)),
  active: (query, value) => query.where('active', '=', truthIn(value) ? 1 : 0),
  emails: (query, value) => query.where('email', '=', String(value)),
  'emails.value': (query, value) => query.where('email', '=', String(value)),
}

export function openUsers(parts: PeopleParts, turn: Turns) {
  const { store, audit, clock, raised } = parts

  async function shown({ base }: Speaking, row: AccountTable): Promise<Attributes> {
    const groups = await store.db
      .selectFrom('directory_members')
      .innerJoin('directory_groups', 'directory_groups.id', 'directory_members.group_id')
      .select(['directory_groups.id', 'directory_groups.display_name'])
      .where('account_id', '=', row.id)
      .execute()
    const data = JSON.parse(row.data) as Attributes
    return {
      schemas: [USER, ...(data[ENTERPRISE] === undefined ? [] : [ENTERPRISE])],
      id: row.id,
      ...(row.external_id === null ? {} : { externalId: row.external_id }),
      userName: row.user_name,
      active: row.active === 1,
      ...data,
      ...(groups.length === 0 ? {} : { groups: groups.map((one) => ({ value: one.id, display: one.display_name })) }),
      meta: {
        resourceType: 'User',
        created: new Date(row.created_at).toISOString(),
        lastModified: new Date(row.updated_at).toISOString(),
        location: `${base}/Users/${row.id}`,
      },
    }
  }

  const all = (db: Database | Write, directory: string) =>
    db.selectFrom('accounts').selectAll().where('directory', '=', directory).where('deleted_at', 'is', null)

  async function find(directory: string, id: string): Promise<AccountTable> {
    const row = await all(store.db, directory).where('id', '=', id).executeTakeFirst()
    if (!row) throw unknown()
    return row
  }

  const named = (db: Database | Write, directory: string, userName: string) => all(db, directory).where(isCalled(userName))

  /** What takes rights away; said in the form of SCIM when it is refused. */
  const reduce = <T>(what: DirectoryChange, work: (trx: Write) => Promise<T>) => unlessLast(reduceRights(parts, what, work))

  async function create(speaking: Speaking, body: Attributes): Promise<Attributes> {
    const { directory, spec } = speaking
    const now = clock.now()
    const { userName, externalId, active = true, data } = read(body)
    const before =
      externalId === undefined
        ? undefined
        : await store.db
            .selectFrom('accounts')
            .selectAll()
            .where('directory', '=', directory)
            .where('external_id', '=', externalId)
            .executeTakeFirst()
    if (before) {
      // Back after he was deleted; or he signed in before we were told of him. Both are the very same account, by an id that never changes hands.
      if (before.deleted_at === null && before.data !== '{}') throw takenAlready('There is a user with this externalId.')
      return save(
        speaking,
        { ...before, deleted_at: null },
        { userName, externalId, active, data },
        before.deleted_at === null ? 'known by SCIM' : 'came back',
      )
    }
    if (await named(store.db, directory, userName).executeTakeFirst()) throw takenAlready('There is a user with this userName.')
    const { count } = await store.db
      .selectFrom('accounts')
      .select((row) => row.fn.countAll<number>().as('count'))
      .where('directory', '=', directory)
      .executeTakeFirstOrThrow()
    if (Number(count) >= MOST_USERS) throw new ScimError(413, `A directory has at most ${MOST_USERS} users here.`)
    const known = await asScim(namedByDocument(store.db, directory, { userName }))
    const person: Pick<IdentityRecord, 'id' | 'name'> = known ?? { id: 'new', name: await asScim(async () => nameFrom(spec, userName)) }
    if (!known && (await findIdentity(store.db, { name: person.name })))
      throw takenAlready(`The name ${person.name} is somebody's here already, or was. An administrator links it with a document.`)
    const what = changed(directory, person, known ? 'linked' : 'came', { userName, active, ...(externalId === undefined ? {} : { externalId }) })
    await audit.append(what)
    const put = async (trx: Write) => {
      await inTurn(trx, directory)
      if (await named(trx, directory, userName).executeTakeFirst()) throw takenAlready('There is a user with this userName.')
      const ask = { userName, ...(externalId === undefined ? {} : { externalId }), ...(emailIn(data) === null ? {} : { email: emailIn(data)! }) }
      const identity = await personFor(trx, directory, spec, ask, undefined, now)
      const row = await addAccount(trx, directory, ask, identity, { data: canonicalJson(data), groups: '[]', active, now })
      await giveTo(trx, directory, spec, row, traitsOf(spec, data), now)
      if (!active) await stopPerson(trx, identity.id, now)
      return row
    }
    // Whoever comes takes nothing from anybody: nobody is asked then whether an administrator is left.
    const { result, epoch } = await asScim(active ? store.reduce(put) : reduce(what, put))
    await raised(epoch)
    if (!active) await endSessionsOf(parts, result.identity_id, 'directory')
    return shown(speaking, result)
  }

  /** Makes the account what was written. What is so already is left alone: no record, no epoch. */
  async function save(speaking: Speaking, row: AccountTable, { userName, externalId, active, data }: Written, what?: string): Promise<Attributes> {
    const { directory, spec } = speaking
    const now = clock.now()
    const next: AccountTable = {
      ...row,
      user_name: userName,
      external_id: externalId ?? row.external_id,
      email: emailIn(data),
      data: canonicalJson(data),
      active: (active ?? row.active === 1) ? 1 : 0,
      // Two changes of one millisecond are two.
      updated_at: Math.max(now, row.updated_at + 1),
    }
    const essence = ({ updated_at: _, ...rest }: AccountTable) => canonicalJson(rest)
    const there = await store.db.selectFrom('accounts').selectAll().where('id', '=', row.id).executeTakeFirstOrThrow()
    if (essence(there) === essence(next)) return shown(speaking, there)
    const other = await named(store.db, directory, userName).where('id', '!=', row.id).executeTakeFirst()
    if (other) throw takenAlready('There is another user with this userName.')
    // Also one that was deleted: his id says who he was, and is nobody else's.
    const twin = await store.db
      .selectFrom('accounts')
      .select('id')
      .where('directory', '=', directory)
      .where('external_id', '=', next.external_id)
      .where('id', '!=', row.id)
      .executeTakeFirst()
    if (twin) throw takenAlready('There is, or was, another user with this externalId.')
    const person = await findIdentity(store.db, { id: row.identity_id })
    if (!person) throw unknown()
    const [was, is] = [isHere(there), isHere(next)]
    const gift = { roles: is ? rolesOfGroups(spec, await groupsOf(store.db, spec, next)) : [], traits: is ? traitsOf(spec, data) : {} }
    const rights = was !== is || (await givesOther(store.db, person.id, directory, gift))
    const change = changed(directory, person, what ?? (was === is ? 'changed' : is ? 'came back' : 'left'), {
      account: row.id,
      userName,
      active: next.active === 1,
    })
    await audit.append(change)
    const put = async (trx: Write) => {
      await inTurn(trx, directory)
      const { id, ...values } = next
      const { numUpdatedRows } = await trx
        .updateTable('accounts')
        .set(values)
        .where('id', '=', id)
        .where('updated_at', '=', row.updated_at)
        .executeTakeFirstOrThrow()
      // Two providers, or two workers of one: whoever was later looks again, and neither undoes what it has not seen.
      if (numUpdatedRows !== 1n) throw new Overtaken('user')
      if (!rights) return
      await giveTo(trx, directory, spec, next, gift.traits, now)
      if (was && !is) await stopPerson(trx, person.id, now)
      if (!was && is) await revivePerson(trx, person.id, now)
    }
    const done = rights ? reduce(change, put) : store.write(put).then(() => undefined)
    const raisedTo = await done.catch((error: unknown) => overtaken(audit, change, error))
    if (raisedTo) await raised(raisedTo.epoch)
    if (was && !is) await endSessionsOf(parts, person.id, 'directory')
    return shown(speaking, next)
  }

  return {
    list: (speaking: Speaking, filter: readonly Comparison[], page: Page) =>
      listed(searched('Users', SEARCHES, all(store.db, speaking.directory), filter), page, (row) => shown(speaking, row)),
    create,
    get: async (speaking: Speaking, id: string) => shown(speaking, await find(speaking.directory, id)),
    replace: (speaking: Speaking, id: string, body: Attributes) =>
      onceMore(turn, speaking.directory, async () => save(speaking, await find(speaking.directory, id), read(body))),
    patch: (speaking: Speaking, id: string, operations: readonly Operation[]) =>
      onceMore(turn, speaking.directory, async () => {
        const row = await find(speaking.directory, id)
        const before: Attributes = {
          userName: row.user_name,
          externalId: row.external_id,
          active: row.active === 1,
          ...(JSON.parse(row.data) as Attributes),
        }
        return save(speaking, row, read(patched(before, operations)))
      }),
    async remove(speaking: Speaking, id: string) {
      const row = await find(speaking.directory, id)
      const person = await findIdentity(store.db, { id: row.identity_id })
      const now = clock.now()
      const whom = person ?? { id: row.identity_id, name: row.user_name }
      const change = changed(speaking.directory, whom, 'deleted', { account: id, userName: row.user_name })
      await audit.append(change)
      const { epoch } = await reduce(change, async (trx) => {
        await inTurn(trx, speaking.directory)
        // The row stays: it says whose the name was, so that nobody else inherits it.
        const gone = { ...row, active: 0, deleted_at: now }
        await trx.updateTable('accounts').set({ active: 0, deleted_at: now, updated_at: now }).where('id', '=', id).execute()
        await trx.deleteFrom('directory_members').where('account_id', '=', id).execute()
        await giveTo(trx, speaking.directory, speaking.spec, gone, {}, now)
        await stopPerson(trx, row.identity_id, now)
      })
      await raised(epoch)
      await endSessionsOf(parts, row.identity_id, 'directory')
    },
  }
}

/** What cannot be is said in the form of SCIM. */
async function asScim<T>(work: Promise<T> | (() => Promise<T>)): Promise<T> {
  try {
    return await (typeof work === 'function' ? work() : work)
  } catch (error) {
    if (!(error instanceof ChaperoneError)) throw error
    if (error.code === 'conflict') throw takenAlready(error.message)
    if (error.code === 'directory_refused' || error.code === 'usage') throw invalid(`${error.message} ${error.fix ?? ''}`.trim())
    throw error
  }
}
