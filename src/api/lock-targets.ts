import { ChaperoneError } from '../errors.ts'
import { toolTarget, UNTARGETED } from '../identity/locks.ts'
import { isId } from '../ids.ts'
import type { LockTable } from '../store/tables.ts'
import { knownIdentity } from './changed.ts'
import type { ApiParts } from './parts.ts'
import { sessionNamed } from './session-named.ts'

type Kind = LockTable['target_kind']
type TargetParts = Pick<ApiParts, 'store' | 'state' | 'clock'>

export interface LockTarget {
  /** what is stored: an immutable id, so that a lock stays on what it was made for. Roles are held by name. */
  readonly target: string
  readonly name: string
}

/** What a person means by a name. Throws `not_found`, `usage`. */
export async function lockTarget(parts: TargetParts, kind: Kind, target: string): Promise<LockTarget> {
  switch (kind) {
    case 'everything':
    case 'agents':
      if (target !== '*' && target !== kind) throw new ChaperoneError('usage', 'This lock has the target `*`.')
      return { target: '*', name: kind === 'agents' ? 'every agent' : kind }
    case 'identity':
    case 'owner':
      return person(parts, kind, target)
    case 'session': {
      const { id } = await sessionNamed(parts, target)
      return { target: id, name: id }
    }
    case 'credential':
      // Whether there is such a one is not asked: a lock on what somebody found in a log must not fail because a row is gone.
      if (!isId('crd', target) && !/^web_[0-9a-f]{26}$/.test(target))
        throw new ChaperoneError('usage', 'A credential is named by its id, crd_…', {
          fix: 'It stands in every record: chaperone audit search --session ID',
        })
      return { target, name: target }
    case 'role': {
      const row = await parts.store.db.selectFrom('documents').select('name').where('kind', '=', 'role').where('name', '=', target).executeTakeFirst()
      if (!row) throw new ChaperoneError('not_found', `There is no role ${target}.`, { fix: 'See: chaperone get role' })
      return { target: row.name, name: row.name }
    }
    case 'resource': {
      const { id, name } = await resource(parts, target)
      return { target: id, name }
    }
    case 'tool':
      return tool(parts, target)
  }
}

async function person(parts: TargetParts, kind: Kind, target: string): Promise<LockTarget> {
  const identity = await knownIdentity(parts, target)
  if (kind === 'owner' && identity.kind !== 'user') {
    throw new ChaperoneError('usage', `${identity.name} owns no agents.`, { fix: `Lock it alone: chaperone lock add identity ${identity.name}` })
  }
  return { target: identity.id, name: kind === 'owner' ? `agents of ${identity.name}` : identity.name }
}

async function resource({ store }: TargetParts, target: string) {
  const [only, name] = target.includes('/') ? target.split('/', 2) : [undefined, target]
  const documents = store.db.selectFrom('documents').select(['id', 'kind', 'name']).where('kind', 'in', RESOURCES)
  let query = isId('res', target) ? documents.where('id', '=', target) : documents.where('name', '=', name ?? '')
  if (only !== undefined) query = query.where('kind', '=', only)
  const [row, another] = await query.limit(2).execute()
  if (!row)
    throw new ChaperoneError('not_found', `There is no resource ${target}.`, {
      fix: 'Write it as mcp/NAME or postgres/NAME. See: chaperone get mcp, chaperone get postgres',
    })
  if (another)
    throw new ChaperoneError('usage', `More than one resource is named ${target}.`, {
      fix: `Write ${row.kind}/${target} or ${another.kind}/${target}.`,
    })
  return { id: row.id, name: `${row.kind}/${row.name}` }
}

/** What can be reached; everything else that is applied says who may reach it. */
const RESOURCES = ['mcp', 'postgres']

async function tool(parts: TargetParts, target: string): Promise<LockTarget> {
  // Names of servers have no slash, those of tools may.
  const slash = target.indexOf('/')
  const fix = 'Write SERVER/TOOL.'
  if (slash < 1 || slash === target.length - 1) throw new ChaperoneError('usage', 'A tool is named with its MCP server.', { fix })
  const [server, name] = [target.slice(0, slash), target.slice(slash + 1)]
  const state = parts.state.current()
  const found = state.find('mcp', server)
  if (!found) {
    if (state.find('postgres', server))
      throw new ChaperoneError('usage', 'The tools of a database are its statements.', {
        fix: `Lock the database: chaperone lock add resource postgres/${server}`,
      })
    throw new ChaperoneError('not_found', `There is no MCP server ${server}.`, { fix: `${fix} See: chaperone get mcp` })
  }
  const pins = state.pins(found.resource.id)
  // A name that is written wrongly would be a lock on nothing. Of a server that nobody has looked at, anything may be locked.
  if (pins.size > 0 && !pins.get('tool', name))
    throw new ChaperoneError('not_found', `${server} offers no tool ${name}.`, { fix: `See: chaperone mcp pins ${server}` })
  return { target: toolTarget(found.resource.id, name), name: `${server}/${name}` }
}

/** The name of today behind what is stored. */
export async function lockName({ store }: Pick<ApiParts, 'store'>, { target_kind, target }: LockTable): Promise<string> {
  if (UNTARGETED.has(target_kind)) return target_kind === 'agents' ? 'every agent' : target_kind
  const name = async (from: 'identities' | 'documents', id: string) =>
    (await store.db.selectFrom(from).select('name').where('id', '=', id).executeTakeFirst())?.name ?? id
  switch (target_kind) {
    case 'identity':
      return name('identities', target)
    case 'owner':
      return `agents of ${await name('identities', target)}`
    case 'resource':
      return name('documents', target)
    case 'tool': {
      const slash = target.indexOf('/')
      return `${await name('documents', target.slice(0, slash))}/${target.slice(slash + 1)}`
    }
    default:
      return target
  }
}
