import type { Decision } from '../../../policy/types.ts'
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
  const isStandIn = described.fetches !== undefined || described.executes !== undefined
  const [now] = isStandIn ? [{ ...described, covered: undefined }] : describeSql(described.text, { ...context, asOfNow: true }, types)
  if (!now || !isBetter(guard.judge(session, statementAction(place, now, context)), guard.judge(session, action))) return undefined
  const meant = [...described.read, ...described.written]
  const [first] = [...covered.written, ...covered.read]
  const instead = first === undefined ? undefined : meant.find((name) => tableOf(name) === tableOf(first))
  if (first === undefined || instead === undefined) return undefined
  return `Without a schema the name may come to mean ${first} before it runs: write ${instead}.`
}

const BY_FREEDOM = ['deny', 'ask', 'allow'] as const
const isBetter = (one: Decision, another: Decision) => BY_FREEDOM.indexOf(one.verdict) > BY_FREEDOM.indexOf(another.verdict)

/** `"a.b"."c"` -> `"c"`. */
const tableOf = (name: string) => /(?:^|\.)("(?:[^"]|"")*"|[^."]*)$/.exec(name)?.[1]
