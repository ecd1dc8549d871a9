import { z } from 'zod'
import { whyQuarantined } from '../access/quarantine.ts'
import type { State } from '../access/state.ts'
import type { McpServerSpec } from '../catalog/mcp-server.ts'
import { stateOf } from '../catalog/pins.ts'
import { ChaperoneError, REASONS } from '../errors.ts'
import { listDelegations } from '../identity/delegation/delegations.ts'
import { findIdentity } from '../identity/directory.ts'
import { lockFor } from '../identity/locks.ts'
import type { ChainLink } from '../identity/types.ts'
import { type Explanation, explain } from '../policy/explain.ts'
import { shownObligations } from '../policy/limits.ts'
import { NOT_VISIBLE } from '../policy/refusal.ts'
import { ruleTitle } from '../policy/rule-title.ts'
import type { Action } from '../policy/types.ts'
import type { Explain, Explained } from './contract.ts'
import type { ApiParts } from './parts.ts'
import { type AskedInSession, type Route, signedIn } from './route.ts'
import { nameText } from './words.ts'

const text = z.string().min(1).max(4096)

/** Who may do what, and why; or what is missing. Nothing is done and nothing is sent anywhere. */
export function explainRoutes(parts: ApiParts): readonly Route[] {
  return [
    signedIn<Explain>({
      method: 'POST',
      path: '/v1/explain',
      // Whoever may read policy sees everything; anybody may ask about himself, and sees no more than a refusal would say.
      who: {
        by: 'verbs',
        anyOf: ['audit.read', 'apply'],
        own: { when: 'otherwise', test: (asked) => isAboutSelf(asked as AskedInSession<Explain>) },
      },
      body: z.strictObject({
        as: nameText.optional(),
        kind: text,
        resource: text.optional(),
        operation: text.optional(),
        tool: text.optional(),
        args: z.unknown().optional(),
        database: text.optional(),
        user: text.optional(),
        sql: z
          .string()
          .max(256 * 1024)
          .optional(),
        verb: text.optional(),
      }) as z.ZodType<Explain>,
      factor: () => false,
      summary: ({ body }) => `explain ${body.kind} as ${body.as ?? 'self'}`,
      handle: (asked) => answer(parts, asked),
    }),
  ]
}

const isAboutSelf = ({ body, session }: AskedInSession<Explain>) => body.as === undefined || body.as === session.principal.name

async function answer(parts: ApiParts, asked: AskedInSession<Explain>): Promise<Explained> {
  const { body, session, permit } = asked
  const describe = Object.hasOwn(parts.describe, body.kind) ? parts.describe[body.kind] : undefined
  if (!describe)
    throw new ChaperoneError('usage', `There is no kind of action ${body.kind}.`, { fix: `Known are: ${Object.keys(parts.describe).join(', ')}.` })
  const chain = isAboutSelf(asked) ? session.principal.chain : await chainOf(parts, body.as ?? '')
  try {
    const actions = [await describe(body, (action) => explanationOf(parts, action, chain, asked).decision)].flat()
    const found = actions.map((action) => explained(parts, action, chain, asked))
    // Of several statements the tightest verdict is the one that counts.
    const [tightest] = found.toSorted((a, b) => RANK[a.verdict]! - RANK[b.verdict]!)
    if (!tightest) throw new ChaperoneError('usage', 'There is nothing to explain: the action is empty.')
    return tightest
  } catch (error) {
    // To whoever may not know it, what exists and what does not look the same (rule 8).
    if (permit === undefined && error instanceof ChaperoneError && error.code === 'not_found') throw new ChaperoneError('not_found', NOT_VISIBLE)
    throw error
  }
}

const RANK: Readonly<Record<string, number>> = { deny: 0, ask: 1, allow: 2 }

function explanationOf({ state, clock }: ApiParts, action: Action, chain: readonly ChainLink[], { session, body }: AskedInSession<Explain>) {
  const now = clock.now()
  const current = state.current()
  const links = action.kind === 'chaperone' ? current.administering(chain, now) : current.links(chain, now)
  const about = isAboutSelf({ body, session } as AskedInSession<Explain>) ? session : { id: 'explain', startedAt: now, how: 'login' }
  const explanation = explain(current.policy, { links, action, now, session: { id: about.id, startedAt: about.startedAt, how: about.how } })
  return { ...explanation, explanation, links, about, now, current }
}

function explained(parts: ApiParts, action: Action, chain: readonly ChainLink[], asked: AskedInSession<Explain>): Explained {
  const { permit } = asked
  const { explanation, decision, links, about, now, current } = explanationOf(parts, action, chain, asked)
  // Chaperone itself is no secret to whoever has a session here.
  if (permit === undefined && !decision.visible && action.kind !== 'chaperone') throw new ChaperoneError('not_found', NOT_VISIBLE)
  // The rules of the person behind an agent are not the agent's to read.
  const full = permit !== undefined || chain.length === 1
  const lock = lockFor(current.locks, { now, links, sessionId: about.id, ...(action.kind === 'chaperone' ? {} : { resourceId: action.resource.id }) })
  const quarantined = decision.verdict === 'deny' ? undefined : whyQuarantined(current, action)
  const verdict = lock
    ? { verdict: 'deny', reason: 'locked' as const, message: `A lock stops this: ${lock.reason}` }
    : quarantined !== undefined
      ? { verdict: 'deny', reason: 'quarantined' as const, message: quarantined }
      : { verdict: decision.verdict, reason: decision.reason, message: decision.visible ? decision.message : REASONS[decision.reason].meaning }
  return {
    ...verdict,
    ...ruleOf(explanation, full),
    ...toolOf(current, action),
    // What the database has is for who may read policy, and for who may run the statement and see for himself.
    ...(permit !== undefined || verdict.verdict === 'allow' ? statementOf(current, action) : {}),
    obligations: shownObligations(decision.obligations),
    links: explanation.links.map(({ name, verdict, reason, rule, limits }) => ({
      name,
      verdict,
      reason,
      ...(rule === undefined ? {} : { rule }),
      ...(limits ? { leaves: limits.words, ...(limits.exceeded === undefined ? {} : { exceeded: limits.exceeded }) } : {}),
    })),
    ...(explanation.missing === undefined || !full ? {} : { missing: explanation.missing }),
    ...(decision.hint === undefined || lock || quarantined !== undefined ? {} : { hint: decision.hint }),
    ...(decision.shadow === undefined || !full ? {} : { shadow: `${decision.shadow.verdict}: ${ruleTitle(decision.shadow.rule)}` }),
    ...(explanation.grant === undefined || !full ? {} : { grant: explanation.grant }),
  }
}

function ruleOf({ decision, ruleText }: Explanation, full: boolean): Pick<Explained, 'rule'> {
  if (!decision.rule) return {}
  const { document, section, index } = decision.rule
  return { rule: { document, section, index, text: full ? (ruleText ?? '') : '' } }
}

/** On what the effects of a tool rest: nobody may have looked at it yet. */
function toolOf(state: State, { kind, resource, subject, effects }: Action): Pick<Explained, 'tool'> {
  if (kind !== 'mcp' || subject?.kind !== 'tool') return {}
  const spec = state.find('mcp', resource.name)?.spec as McpServerSpec | undefined
  const pin = state.pins(resource.id).get('tool', subject.name)
  const catalog = spec !== undefined && Object.hasOwn(spec.tools, subject.name)
  const effectsFrom = catalog ? 'catalog' : spec?.trusted && pin?.approved !== undefined ? 'server' : 'nobody'
  return { tool: { effects, effectsFrom, definition: pin ? stateOf(pin) : 'unseen' } }
}

function statementOf({ policy }: State, action: Action): Pick<Explained, 'statement'> {
  if (action.kind !== 'postgres') return {}
  const { effects, unclear } = action
  const facts = policy.vocabularies.get(action.kind)?.recorded?.(action).facts ?? {}
  return { statement: { effects, facts, looked: 'columns' in action.facts, ...(unclear === undefined ? {} : { unclear }) } }
}

/** The chain under which the named identity acts: a client of a person acts for him. */
export async function chainOf({ store, state, clock }: ApiParts, name: string): Promise<readonly ChainLink[]> {
  const identity = await findIdentity(store.db, { name })
  if (!identity || identity.state === 'deleted') throw new ChaperoneError('not_found', `There is no identity ${name}.`)
  if (identity.state === 'disabled') throw new ChaperoneError('identity_disabled', `${name} is disabled; it may do nothing.`)
  const own: ChainLink = { identity: identity.id }
  if (!name.includes('/') || identity.ownerId === undefined) {
    await state.see([own])
    return [own]
  }
  const [delegation] = await listDelegations(store.db, { fromId: identity.ownerId, toId: identity.id, now: clock.now(), limit: 1 })
  const chain = [{ identity: identity.ownerId }, delegation ? { ...own, delegation: delegation.id } : own]
  await state.see(chain)
  return chain
}
