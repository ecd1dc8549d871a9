import type { Policy } from './compile.ts'
import { entriesFor, wayOf } from './entries.ts'
import type { RequestEntry } from './entry.ts'
import { type Judgement, judgeLink } from './judge.ts'
import type { Link, Question, Way } from './types.ts'

export interface FoundWay {
  readonly way: Way
  readonly entry: RequestEntry
  readonly link: Link
}

/** Of a role that names hundreds, the first will do (rule 11). */
const MOST_TRIED = 100

/**
 * What may be asked for so that this refusal becomes a yes, or a question. Each entry is tried: the action is judged again as
 * if it were granted. The link nearest to the top that lacks something has to ask, and where those below it lack the same,
 * it has to ask for them too: a grant goes down the chain, never up (rule 7). Nothing helps against a rule that denies.
 */
export function waysOf(policy: Policy, question: Question, judgements: readonly Judgement[]): readonly FoundWay[] {
  const vocabulary = policy.vocabularies.get(question.action.kind)
  const lacking = judgements.filter(({ verdict }) => verdict === 'deny')
  const top = lacking[0]
  if (!vocabulary || !top || lacking.some(({ reason }) => reason !== 'no_rule')) return []
  const { action, now } = question
  const found: FoundWay[] = []
  for (const entry of entriesFor(policy, top.link, now).slice(0, MOST_TRIED)) {
    const grant = { role: entry.role, request: '', until: now + entry.maxMs, ...(entry.named ? { resourceId: action.resource.id } : {}) }
    const helps = lacking.every(({ link }) => {
      const granted = { ...link, grants: [...(link.grants ?? []), grant] }
      return judgeLink(policy, vocabulary, question, granted).verdict !== 'deny'
    })
    if (!helps || found.some(({ way }) => way.role === entry.role)) continue
    found.push({ way: { ...wayOf(entry, top.link), ...(lacking.length > 1 ? { below: true as const } : {}) }, entry, link: top.link })
  }
  return found
}
