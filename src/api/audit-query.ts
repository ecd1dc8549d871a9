import { FACT_FILTERS } from '../audit/fact-filter.ts'
import type { RecordQuery } from '../audit/query.ts'
import { RECORD_TYPES, type RecordType } from '../audit/record.ts'
import { near } from '../documents/near.ts'
import { ChaperoneError } from '../errors.ts'
import { findIdentity, listIdentities } from '../identity/directory.ts'
import { isId } from '../ids.ts'
import { EFFECTS } from '../policy/types.ts'
import type { RuleWish } from './audit-rule.ts'
import type { ApiParts } from './parts.ts'
import { count } from './words.ts'

/** Other names that clients use for the same. */
const ALSO: Readonly<Record<string, string>> = { identity: 'actor', cursor: 'before' }
const KNOWN = ['actor', 'type', 'session', 'resource', 'verdict', 'since', 'until', 'text', 'limit', 'before', ...FACT_FILTERS]
const LONGEST = 512
const MOST_AGENTS = 49

/**
 * The query string of a search, its names made ids. What is not understood is refused: a filter that is quietly ignored
 * shows too much and looks like an answer. Throws `usage`, `not_found`.
 */
export async function readAuditQuery(parts: Pick<ApiParts, 'store' | 'chaperone'>, query: URLSearchParams): Promise<RecordQuery> {
  const given = new Map<string, string>()
  for (const [key, value] of query) {
    const name = ALSO[key] ?? key
    if (!KNOWN.includes(name) || given.has(name) || value === '' || value.length > LONGEST)
      throw usage(`\`${key.slice(0, 40)}\` is unknown, empty, too long or there twice`)
    given.set(name, value)
  }
  const text = given.get('text')
  const session = given.get('session')
  const before = given.get('before')
  const actor = given.get('actor')
  const resource = given.get('resource')
  return {
    limit: count(query, 'limit', 1000, 100),
    ...(actor === undefined ? {} : { identity: await identitiesOf(parts, actor) }),
    ...(resource === undefined ? {} : { resource: await resourceOf(parts, resource) }),
    ...(session === undefined ? {} : { session }),
    ...(text === undefined ? {} : { text }),
    ...(before === undefined ? {} : { before }),
    ...factsOf(given),
    ...typeOf(given.get('type')),
    ...verdictOf(given.get('verdict')),
    ...timeOf('since', given),
    ...timeOf('until', given),
  }
}

function factsOf(given: ReadonlyMap<string, string>): Pick<RecordQuery, 'facts'> {
  const facts = Object.fromEntries(FACT_FILTERS.flatMap((key) => (given.has(key) ? [[key, given.get(key)!]] : [])))
  const { effect, sqlstate, transaction, shadow, unsent } = facts
  if (shadow !== undefined && shadow !== 'any' && shadow !== 'ask' && shadow !== 'deny') throw usage('a shadow is any, ask or deny')
  if (unsent !== undefined && unsent !== 'any') throw usage('unsent is any')
  if (effect !== undefined && !(EFFECTS as readonly string[]).includes(effect)) throw usage(`an effect is ${EFFECTS.join(', ')}`)
  if (sqlstate !== undefined && !/^[0-9A-Z]{5}$/.test(sqlstate)) throw usage('an SQLSTATE has five digits or capitals, such as 42501')
  if (transaction !== undefined && !/^[\w-]+\.[0-9]+$/.test(transaction)) throw usage('a transaction is a connection and a number: con_….3')
  return Object.keys(facts).length === 0 ? {} : { facts }
}

/** Where a drafted rule is to stand. Throws `usage`. */
export function readRuleWish(query: URLSearchParams): RuleWish {
  const wish: { role?: string; guardrail?: string } = {}
  for (const [key, value] of query) {
    if ((key !== 'role' && key !== 'guardrail') || Object.keys(wish).length > 0 || !/^[a-z0-9][a-z0-9-]{0,62}$/i.test(value))
      throw new ChaperoneError('usage', 'A rule is drafted for one role or one guardrail, by its name.')
    wish[key] = value
  }
  return wish
}

/** A person and the agents that answer to him; deleted ones too, their records stay. */
export async function identitiesOf({ store }: Pick<ApiParts, 'store'>, actor: string): Promise<readonly string[]> {
  const identity = (await findIdentity(store.db, { name: actor })) ?? (await findIdentity(store.db, { id: actor }))
  if (!identity) throw new ChaperoneError('not_found', `There is no identity ${actor}, and there never was.`)
  if (identity.kind !== 'user') return [identity.id]
  const agents = await listIdentities(store.db, { ownerId: identity.id, limit: MOST_AGENTS })
  return [identity.id, ...agents.map((agent) => agent.id)]
}

async function resourceOf({ store, chaperone }: Pick<ApiParts, 'store' | 'chaperone'>, text: string): Promise<string> {
  if (text === 'chaperone' || text === chaperone.name || text === chaperone.id) return chaperone.id
  // The id finds what was deleted meanwhile, too.
  const isResourceId: boolean = isId('res', text)
  if (isResourceId) return text
  const slash = text.indexOf('/')
  let query = store.db
    .selectFrom('documents')
    .select(['id', 'kind'])
    .where('kind', 'not in', ['role', 'guardrail', 'user', 'agent', 'tripwire', 'notifier', 'secret'])
    .where('name', '=', text.slice(slash + 1))
  if (slash >= 0) query = query.where('kind', '=', text.slice(0, slash))
  const [row, another] = await query.limit(2).execute()
  if (!row) throw await noResource(store, text)
  if (another) throw usage(`more than one resource is named ${text}: write ${row.kind}/${text} or ${another.kind}/${text}`)
  return row.id
}

/** Whoever reads the record reads every name in it, so what is near may be said. */
async function noResource({ db }: ApiParts['store'], text: string): Promise<ChaperoneError> {
  const rows = await db.selectFrom('documents').select(['kind', 'name']).where('kind', 'in', ['mcp', 'postgres']).execute()
  const known = rows.map(({ kind, name }) => (text.includes('/') ? `${kind}/${name}` : name))
  const fix = [near(text, known), 'What was deleted is found by its id.'].filter((part) => part !== undefined).join(' ')
  return new ChaperoneError('not_found', `There is no resource ${text}.`, { fix })
}

function typeOf(type: string | undefined): { type?: RecordType } {
  if (type === undefined) return {}
  if (!Object.hasOwn(RECORD_TYPES, type)) throw usage(`there is no kind of record ${type.slice(0, 40)}`)
  return { type: type as RecordType }
}

function verdictOf(verdict: string | undefined): { verdict?: 'allow' | 'ask' | 'deny' } {
  if (verdict === undefined) return {}
  if (verdict !== 'allow' && verdict !== 'ask' && verdict !== 'deny') throw usage('a verdict is allow, ask or deny')
  return { verdict }
}

function timeOf(key: 'since' | 'until', given: ReadonlyMap<string, string>): { [key in 'since' | 'until']?: number } {
  const text = given.get(key)
  if (text === undefined) return {}
  if (!/^\d{1,15}$/.test(text)) throw usage(`\`${key}\` is a number of milliseconds since 1970`)
  return { [key]: Number(text) }
}

const usage = (what: string) => new ChaperoneError('usage', `The record cannot be searched like this: ${what}.`)
