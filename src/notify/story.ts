import { whoDecides } from '../access/requests/approvers.ts'
import type { AccessRequest, CallWish, RequestEvent } from '../access/requests/types.ts'
import type { Told } from '../catalog/notifier.ts'
import { readably } from '../gateways/postgres/asking/laid-out.ts'
import type { Write } from '../store/store.ts'
import { cleaned, cut } from './plain-text.ts'
import type { AgentEvent, AgentStory, LockStory, Notice, Person, RequestStory, Story } from './types.ts'

export interface StoryParts {
  /** https://... of the page of a request */
  readonly link: (id: string) => string
  /** Takes known secrets, and what looks like one, out of a text. */
  readonly mask: (text: string) => string
}

/** Of a reason or purpose; what is longer is read on the page of the request. */
const LONGEST_TEXT = 2000
const LONGEST_LINE = 300
/** All of what approvers are shown, with `detail: full`. */
const LONGEST_SHOWN = 16 * 1024
const MOST_SHOWN = 16

/** A story and what `for` of a notifier looks at. `full` has what approvers are shown as well. */
export interface ToldStory {
  readonly summary: Story
  /** made when somebody wants it: SQL is laid out for it */
  readonly full: () => Promise<Story>
  /** the identity that it is about, if any */
  readonly source: string | undefined
  readonly about: About
}

export interface About {
  readonly on: Told
  /** roles that are asked to decide */
  readonly approvers: readonly string[]
  /** names of the identities that it is about: who asked and on whose behalf, or what a lock lies on */
  readonly identities: readonly string[]
  readonly labels: Readonly<Record<string, string>> | undefined
}

/** Reads the names that belong to it, as of this transaction. */
export async function storyOf(trx: Write, notice: Notice, at: number, parts: StoryParts): Promise<ToldStory> {
  if ('agent' in notice) return agentStory(trx, notice, at)
  if ('directory' in notice) {
    const on: Told = `directory.${notice.type}`
    const summary: Story = { on, at, directory: { name: notice.directory, what: notice.what } }
    return { summary, full: async () => summary, source: undefined, about: { on, approvers: [], identities: [], labels: undefined } }
  }
  return 'lock' in notice ? lockStory(trx, notice, at, parts) : requestStory(trx, notice, at, parts)
}

async function requestStory(trx: Write, { type, request }: RequestEvent, at: number, { link, mask }: StoryParts): Promise<ToldStory> {
  const on: Told = `request.${type}`
  const text = (from: string, most = LONGEST_TEXT) => cut(cleaned(mask(from)), most)
  const line = (from: string) => cut(cleaned(mask(from), false), LONGEST_LINE)

  const chain = request.chain.map(({ identity }) => identity)
  const vote = request.votes.at(-1)
  const byId = decider(request, type)
  const people = await peopleOf(trx, [...chain, request.identityId, ...(byId === undefined ? [] : [byId])])
  const person = (id: string): Person => people.get(id) ?? { id, name: id, kind: 'unknown' }

  const access = request.kind === 'access' ? request.body : undefined
  const call = request.kind === 'call' ? request.body : undefined
  const server = request.kind === 'server' ? line(request.body.name) : undefined
  const resourceId = access?.resource?.id ?? call?.resource.id
  const found = resourceId === undefined ? undefined : await resourceOf(trx, resourceId)
  const resource = access?.resource ?? (call && { kind: found?.kind ?? call.kind, name: call.resource.name })
  const byReason = vote !== undefined && vote.identityId === byId ? vote.reason : undefined

  const story: RequestStory = {
    id: request.id,
    kind: request.kind,
    state: request.state,
    link: link(request.id),
    who: person(request.identityId),
    onBehalfOf: chain.filter((id) => id !== request.identityId).map(person),
    ...(access === undefined ? {} : { role: access.role, forMs: access.forMs }),
    ...(resource === undefined ? {} : { resource: { kind: resource.kind, name: resource.name } }),
    ...(access?.breakGlass ? { breakGlass: true } : {}),
    ...(call === undefined
      ? {}
      : { call: { operation: line(call.operation), effects: call.effects, summary: line(call.summary), why: text(call.message, LONGEST_LINE) } }),
    ...(server === undefined ? {} : { server }),
    approvers: whoDecides(request),
    ...(request.reason === '' ? {} : { reason: text(request.reason) }),
    ...(request.purpose === undefined ? {} : { purpose: text(request.purpose, LONGEST_LINE) }),
    ...(byId === undefined ? {} : { by: person(byId) }),
    ...(byReason === undefined ? {} : { byReason: text(byReason) }),
    createdAt: request.createdAt,
    ...given('expiresAt', request.expiresAt),
    ...given('startsAt', request.startsAt),
    ...given('endsAt', request.endsAt),
    ...given('reviewDue', request.reviewDue),
    ...(request.outcome === undefined ? {} : { outcome: line(request.outcome) }),
  }
  const summary: Story = { on, at, request: story }
  return {
    summary,
    full: async () => (call === undefined ? summary : { on, at, request: { ...story, shown: await shownOf(call, mask) } }),
    source: request.identityId,
    about: {
      on,
      approvers: request.needs.flatMap(({ approvers, escalate }) => [approvers, escalate?.approvers].flatMap(rolesIn)),
      identities: [...new Set([...story.onBehalfOf, story.who].map(({ name }) => name))],
      labels: found?.labels,
    },
  }
}

async function lockStory(trx: Write, { type, lock, by }: Extract<Notice, { lock: unknown }>, at: number, { mask }: StoryParts): Promise<ToldStory> {
  const on: Told = `lock.${type}`
  const line = (from: string) => cut(cleaned(mask(from), false), LONGEST_LINE)
  const person = by === undefined ? undefined : (await peopleOf(trx, [by])).get(by)
  const story: LockStory = {
    id: lock.id,
    kind: lock.kind,
    name: line(lock.name),
    reason: cut(cleaned(mask(lock.reason)), LONGEST_TEXT),
    ...given('expiresAt', lock.expiresAt),
    ...(lock.madeBy === undefined ? {} : { madeBy: line(lock.madeBy) }),
    ...(person === undefined ? {} : { by: person }),
  }
  const summary: Story = { on, at, lock: story }
  const labels = lock.kind === 'resource' ? (await resourceOf(trx, lock.target))?.labels : undefined
  const identities = lock.kind === 'identity' || lock.kind === 'owner' ? [lock.name] : []
  return { summary, full: async () => summary, source: undefined, about: { on, approvers: [], identities, labels } }
}

async function agentStory(trx: Write, { type, agent, why, stopsAt }: AgentEvent, at: number): Promise<ToldStory> {
  const on: Told = `agent.${type}`
  const owner = agent.ownerId === undefined ? undefined : (await peopleOf(trx, [agent.ownerId])).get(agent.ownerId)
  const story: AgentStory = { id: agent.id, name: agent.name, ...(owner === undefined ? {} : { owner }), why, ...given('stopsAt', stopsAt) }
  const summary: Story = { on, at, agent: story }
  const identities = [agent.name, ...(owner ? [owner.name] : [])]
  return { summary, full: async () => summary, source: agent.id, about: { on, approvers: [], identities, labels: undefined } }
}

const given = <Name extends string>(name: Name, value: number | undefined) =>
  (value === undefined ? {} : { [name]: value }) as { [key in Name]?: number }

/** Who is behind this change; nobody for what time or a rule has done. */
function decider(request: AccessRequest, type: RequestEvent['type']): string | undefined {
  if (type === 'voted') return request.votes.at(-1)?.identityId
  if (type === 'reviewed') return request.reviewedBy
  return type === 'approved' || type === 'denied' || type === 'withdrawn' || type === 'revoked' ? request.decidedBy : undefined
}

/** As approvers read it on the page and in the terminal: SQL laid out where it can be. */
async function shownOf(call: CallWish, mask: StoryParts['mask']): Promise<NonNullable<RequestStory['shown']>> {
  // What the record must not keep is kept by no receiver either.
  if (call.fleeting) return []
  let left = LONGEST_SHOWN
  // Masked first: laid out, what is written without quotes would have spaces in it that no secret has.
  const masked = call.shown.slice(0, MOST_SHOWN).map((part) => ({ ...part, text: mask(part.text) }))
  return (await readably(masked)).flatMap(({ title, text, formatted }) => {
    if (left <= 0) return []
    const shown = { title: cut(cleaned(title, false), LONGEST_LINE), text: cut(cleaned(formatted ?? text), left) }
    left -= shown.text.length
    return [shown]
  })
}

type Asked = RequestEvent['request']['needs'][number]['approvers']

function rolesIn(approvers: Asked): readonly string[] {
  if (approvers === undefined || approvers === 'owner') return []
  return ('all' in approvers ? approvers.all : [approvers]).flatMap(({ role }) => (role === undefined ? [] : [role].flat()))
}

async function peopleOf(trx: Write, ids: readonly string[]): Promise<ReadonlyMap<string, Person>> {
  const rows = await trx
    .selectFrom('identities')
    .select(['id', 'name', 'kind'])
    .where('id', 'in', [...new Set(ids)])
    .execute()
  return new Map(rows.map((row) => [row.id, row]))
}

async function resourceOf(trx: Write, id: string) {
  const row = await trx.selectFrom('documents').select(['kind', 'labels']).where('id', '=', id).executeTakeFirst()
  return row && { kind: row.kind, labels: JSON.parse(row.labels) as Record<string, string> }
}
