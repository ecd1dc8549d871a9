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

/**
 * Says what a directory gives a person from now on; undefined: nothing any more (without `traits`: those that it gave before). It may reduce rights: call it inside `store.reduce`.
 * Returns whether anything changed.
 */
export async function give(
  trx: Write,
  identityId: string,
  directory: string,
  gift: { readonly roles: readonly string[]; readonly traits?: Gift['traits'] | undefined } | undefined,
  now: number,
): Promise<boolean> {
  const row = await trx.selectFrom('identities').select(['kind', 'roles', 'traits', 'given']).where('id', '=', identityId).executeTakeFirst()
  // The same people come from a directory as from documents: agents never do.
  if (row?.kind !== 'user') return false
  const before: Given = givenIn(row.given) ?? { own: { roles: JSON.parse(row.roles), traits: JSON.parse(row.traits) }, from: {} }
  const { [directory]: was = NONE, ...others } = before.from
  const is = gift && { roles: gift.roles, traits: gift.traits ?? was.traits }
  const empty = is === undefined || (is.roles.length === 0 && Object.keys(is.traits).length === 0)
  const after: Given = { own: before.own, from: empty ? others : { ...others, [directory]: is } }
  if (canonicalJson(after) === canonicalJson(before)) return false
  const { roles, traits } = effective(after)
  await trx
    .updateTable('identities')
    .set({
      roles: JSON.stringify(roles),
      traits: JSON.stringify(traits),
      given: Object.keys(after.from).length === 0 ? null : JSON.stringify(after),
      updated_at: now,
    })
    .where('id', '=', identityId)
    .execute()
  return true
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
