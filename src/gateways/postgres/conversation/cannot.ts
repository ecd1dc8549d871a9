import type { Described } from '../describe.ts'

/** Why nobody can be asked about a statement now, and what to do: the refusal says it. */

export const IN_TRANSACTION = 'A transaction is open, and its locks would be held while somebody thinks: end it, and send the statement by itself.'
export const AMONG_OTHERS = 'It stands in one text with others, which run together or not at all: send it by itself.'
export const IN_PIPELINE =
  'Other messages stand before or behind it without a Sync between them: send it by itself, with a Sync right behind its Execute.'
export const NOT_RUN = 'It is bound and not run: send Execute and Sync right behind the Bind.'
export const GOES_ON = 'It goes on with the rest of a portal: fetch all of its rows at once.'
export const RULES_CHANGED = 'The rules changed while it was judged: send it again.'
export const TOO_MANY_SETTINGS = 'This connection has moved more settings than can be shown: connect again.'

/** They move with the next nextval() of the connection, between a yes and the run. */
const LAST_VALUES: ReadonlySet<string> = new Set(['currval', 'lastval'])

const isTemporary = (name: string) => /^"?pg_temp(?:_\d+)?"?\./.test(name)

/** By what the statement is. */
export function whyNot({ kinds, executes, fetches, stands, functions, read, behind, written }: Described): string | undefined {
  if ([...read, ...behind].some(isTemporary) && !written.every(isTemporary))
    return 'It goes by rows of a temporary table, which nobody else can see and which may be others by then: write the values into the statement.'
  if (functions.some((name) => LAST_VALUES.has(name.replace(/^pg_catalog\./, ''))))
    return 'currval() and lastval() stand for what this connection did last, which nobody can see: write the value itself.'
  if (kinds.includes('copy')) return 'COPY carries data that nobody has seen yet: write it as INSERT, or SELECT.'
  if (kinds.includes('prepare')) return 'PREPARE runs nothing: send the statement itself.'
  if (kinds.includes('cursor')) return 'A cursor is read in parts: send the SELECT itself.'
  if ((executes !== undefined || fetches !== undefined) && stands === undefined)
    return 'What the name stands for cannot be seen: send the statement itself.'
  return undefined
}
