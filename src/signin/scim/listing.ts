import type { SelectQueryBuilder } from 'kysely'
import { invalid } from './errors.ts'
import type { Comparison } from './filter.ts'
import type { Attributes } from './patch.ts'

/** Which of them somebody asks for: `startIndex` counts from one. */
export interface Page {
  readonly startIndex: number
  readonly count: number
}

export interface Listed {
  readonly total: number
  readonly resources: readonly Attributes[]
}

/** What may be searched by: the attribute in lower case, and what it means for the rows. */
export type Searches<DB, TB extends keyof DB, O> = Readonly<
  Record<string, (query: SelectQueryBuilder<DB, TB, O>, value: string | boolean) => SelectQueryBuilder<DB, TB, O>>
>

/** `what`: in a sentence, for who asks by something else. Throws `invalidFilter`. */
export function searched<DB, TB extends keyof DB, O>(
  what: string,
  searches: Searches<DB, TB, O>,
  query: SelectQueryBuilder<DB, TB, O>,
  filter: readonly Comparison[],
): SelectQueryBuilder<DB, TB, O> {
  return filter.reduce((found, { attribute, value }) => {
    if (!Object.hasOwn(searches, attribute))
      throw invalid(`${what} cannot be searched by ${JSON.stringify(attribute.slice(0, 60))}.`, 'invalidFilter')
    return searches[attribute]!(found, value)
  }, query)
}

/** A page of what a query finds, in the order of the ids, which never changes; and how many there are in all. */
export async function listed<DB, TB extends keyof DB, O>(
  query: SelectQueryBuilder<DB, TB, O>,
  { startIndex, count }: Page,
  shown: (row: O) => Promise<Attributes>,
): Promise<Listed> {
  const counted = query.clearSelect().select((row) => row.fn.countAll<number>().as('total')) as SelectQueryBuilder<DB, TB, { total: number }>
  const { total } = (await counted.executeTakeFirstOrThrow()) as { total: number }
  const rows = await query
    .orderBy('id' as never)
    .limit(count)
    .offset(startIndex - 1)
    .execute()
  return { total: Number(total), resources: await Promise.all(rows.map(shown)) }
}
