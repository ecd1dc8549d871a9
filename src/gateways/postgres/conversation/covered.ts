import type { Action, Decision } from '../../../policy/types.ts'
import { describeSql, statementAction } from '../describe.ts'
import type { Asked } from './asked.ts'
import type { ConversationParts } from './parts.ts'

/**
 * Said of a statement that is refused only for tables that its names do not lead to now, but might by the time at which the server looks:
 * how to write it so that they cannot. Undefined: it is refused for what it means as well.
 */
export function wayAround({ guard, session, place }: Pick<ConversationParts, 'guard' | 'session' | 'place'>, asked: Asked): string | undefined {
  const { described, context, action, types } = asked
  const { covered } = described
  if (!covered) return undefined
  // What stands for another statement is not in its own text, and a long one is not read again for this.
  const isTaken = described.fetches !== undefined || described.executes !== undefined || described.text.length > LONGEST
  const [now] = isTaken ? [{ ...described, covered: undefined }] : describeSql(described.text, { ...context, asOfNow: true }, types)
  const judged = (of: Action) => verdictOf(() => guard.judge(session, of))
  if (!now || judged(statementAction(place, now, context)) <= judged(action)) return undefined
  const meant = [...described.read, ...described.written]
  const [first] = [...covered.written, ...covered.read]
  const instead = first === undefined ? undefined : meant.find((name) => tableOf(name) === tableOf(first))
  if (first === undefined || instead === undefined) return undefined
  return `Without a schema the name may come to mean ${first} before it runs: write ${instead}.`
}

/** characters; what is longer is parsed elsewhere (`sql/big-texts.ts`) */
const LONGEST = 8 * 1024

/** The freer the higher. A session that is over is judged no more, and its refusal stays what it is. */
function verdictOf(judge: () => Decision): number {
  try {
    return ['deny', 'ask', 'allow'].indexOf(judge().verdict)
  } catch {
    return 0
  }
}

/** `"a.b"."c"` -> `"c"`. */
const tableOf = (name: string) => /(?:^|\.)("(?:[^"]|"")*"|[^."]*)$/.exec(name)?.[1]
