import type { Database, Write } from '../store/store.ts'
import type { Step } from './diff.ts'
import { verbRules } from './grants.ts'
import type { Wish } from './plan.ts'
import type { Problem } from './types.ts'

/**
 * The step by which nobody invites alone any more, if there is one. With what was made before it one person could still come in as
 * another, and say yes to himself: so it closes all that is open.
 */
export const closesInvitations = (steps: readonly Step[]): Step | undefined =>
  steps.find(({ op, kind, before, after }) => {
    if (kind !== 'guardrail' || op === 'unchanged' || !after) return false
    const rules = (spec: Parameters<typeof verbRules>[0]) => (['ask', 'deny'] as const).flatMap((section) => verbRules(spec, section))
    const known = new Set(before ? rules(before.spec).map(({ text }) => text) : [])
    return rules(after.spec).some(({ text, verbs }) => verbs.includes('issue') && !known.has(text))
  })

/** Names of the people whose invitations are open. */
export async function openInvitations(db: Database | Write, now: number): Promise<readonly string[]> {
  const rows = await db
    .selectFrom('invitations')
    .innerJoin('identities', 'identities.id', 'invitations.identity_id')
    .select('identities.name')
    .distinct()
    .where('invitations.kind', '=', 'invitation')
    .where('invitations.used_at', 'is', null)
    .where('invitations.expires_at', '>', now)
    .orderBy('identities.name')
    .execute()
  return rows.map(({ name }) => name)
}

export async function closeInvitations(trx: Write): Promise<void> {
  await trx.deleteFrom('invitations').where('kind', '=', 'invitation').where('used_at', 'is', null).execute()
}

/** What is said of it to who applies the rule. */
export function closedWarning({ kind, name }: Step, { documents }: Wish, names: readonly string[]): Problem {
  const rule = documents.find((one) => one.kind === kind && one.name === name)
  return {
    ...(rule?.place([]) ?? { file: `${kind}/${name}`, line: 1, column: 1 }),
    level: 'warning',
    message: `From this rule on nobody invites alone; what is open of invitations made before is closed: ${names.slice(0, 20).join(', ')}${names.length > 20 ? ` and ${names.length - 20} more` : ''}.`,
    fix: 'Invite those again who have not come yet: chaperone invite NAME',
  }
}
