import { canonicalJson } from '../encoding/canonical-json.ts'
import type { Write } from '../store/store.ts'

/**
 * A person has roles and traits of his own, which a document says, and others that the company's directories give him by his groups.
 * What counts stands in `identities.roles` and `.traits`, so that whoever decides reads one place; whose they are stands in
 * `identities.given`, so that a group that is lost takes away its roles and no others.
 */
interface Gift {
  readonly roles: readonly string[]
  readonly traits: Readonly<Record<string, unknown>>
}

export interface Given {
  readonly own: Gift
  /** by name of the directory */
  readonly from: Readonly<Record<string, Gift>>
}

const NONE: Gift = { roles: [], traits: {} }

export const givenIn = (text: string | null): Given | undefined => (text === null ? undefined : (JSON.parse(text) as Given))

/** What counts of it all. What a document says of a person goes before what a directory says. */
export function effective({ own, from }: Given): Gift {
  const gifts = Object.keys(from)
    .sort()
    .map((directory) => from[directory]!)
  return {
    roles: [...new Set([...own.roles, ...gifts.flatMap((gift) => gift.roles)])],
    traits: Object.assign({}, ...gifts.toReversed().map((gift) => gift.traits), own.traits),
  }
}

/** What a directory gives a person; without `traits`: those that it gave before. */
export interface Giving {
  readonly roles: readonly string[]
  readonly traits?: Gift['traits'] | undefined
}

/** People in one statement. */
const CHUNK = 500

/**
 * Says what a directory gives people from now on, by their ids; undefined: nothing any more. It may reduce rights: call it inside
 * `store.reduce`. Returns how many it changed anything for. Whoever gets the same is written together: a group of 5,000 is tens of
 * statements and not 15,000 (measured on PostgreSQL: 21 s, in which nobody else could write).
 */
export async function give(trx: Write, directory: string, gifts: ReadonlyMap<string, Giving | undefined>, now: number): Promise<number> {
  const ids = [...gifts.keys()]
  const together = new Map<string, { readonly set: { roles: string; traits: string; given: string | null }; readonly ids: string[] }>()
  for (let from = 0; from < ids.length; from += CHUNK) {
    const rows = await trx
      .selectFrom('identities')
      .select(['id', 'roles', 'traits', 'given'])
      // The same people come from a directory as from documents: agents never do.
      .where('kind', '=', 'user')
      .where('id', 'in', ids.slice(from, from + CHUNK))
      .execute()
    for (const row of rows) {
      const set = withGift(row, directory, gifts.get(row.id))
      if (!set) continue
      const key = JSON.stringify(set)
      const same = together.get(key) ?? { set, ids: [] }
      same.ids.push(row.id)
      together.set(key, same)
    }
  }
  let changed = 0
  for (const { set, ids } of together.values()) {
    changed += ids.length
    for (let from = 0; from < ids.length; from += CHUNK)
      await trx
        .updateTable('identities')
        .set({ ...set, updated_at: now })
        .where('id', 'in', ids.slice(from, from + CHUNK))
        .execute()
  }
  return changed
}

/** The columns as they are with this gift; undefined when nothing changes. */
function withGift(
  row: { readonly roles: string; readonly traits: string; readonly given: string | null },
  directory: string,
  gift: Giving | undefined,
) {
  const before: Given = givenIn(row.given) ?? { own: { roles: JSON.parse(row.roles), traits: JSON.parse(row.traits) }, from: {} }
  const { [directory]: was = NONE, ...others } = before.from
  const is = gift && { roles: gift.roles, traits: gift.traits ?? was.traits }
  const empty = is === undefined || (is.roles.length === 0 && Object.keys(is.traits).length === 0)
  const after: Given = { own: before.own, from: empty ? others : { ...others, [directory]: is } }
  if (canonicalJson(after) === canonicalJson(before)) return undefined
  const { roles, traits } = effective(after)
  return {
    roles: JSON.stringify(roles),
    traits: JSON.stringify(traits),
    given: Object.keys(after.from).length === 0 ? null : JSON.stringify(after),
  }
}

/** What a document says of a person's own roles and traits, beside what directories give him. */
export function ownChanged(
  text: string | null,
  change: Partial<Gift>,
): { readonly roles?: string; readonly traits?: string; readonly given?: string } {
  const before = givenIn(text)
  if (!before) {
    return {
      ...(change.roles === undefined ? {} : { roles: JSON.stringify(change.roles) }),
      ...(change.traits === undefined ? {} : { traits: JSON.stringify(change.traits) }),
    }
  }
  const after: Given = { ...before, own: { ...NONE, ...before.own, ...change } }
  const { roles, traits } = effective(after)
  return { roles: JSON.stringify(roles), traits: JSON.stringify(traits), given: JSON.stringify(after) }
}
