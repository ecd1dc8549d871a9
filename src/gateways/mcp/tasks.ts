import type { Clock } from '../../clock.ts'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import type { Store } from '../../store/store.ts'
import { META_CAPABILITIES } from './era.ts'
import { edited, itemsOf, spanAt } from './text/json-text.ts'
import {
  INVALID_PARAMS,
  isObject,
  MISSING_CAPABILITY,
  memberOf,
  type Notification,
  ProtocolError,
  type Request,
  type UpstreamMessage,
} from './wire.ts'

/**
 * Whose a task is. Its id is a name, not a credential (specification 2026-07-28, section 3.1): a server that sees one
 * credential for all of us could not tell its owners apart, so we do, also after a restart and on another node.
 */
export interface TaskOwners {
  /** Remembers what the answer to a call says of a task it made. Resolves when it is stored; only then may the client hear of it. */
  learn(resourceId: string, session: LiveSession, call: Request, answer: string, permit?: string): Promise<void>
  /** The call that made the task. Undefined: there is none of that id, or it is somebody else's. */
  ownerOf(resourceId: string, session: LiveSession, taskId: string): Promise<TaskOwner | undefined>
}

/** The call that made a task. */
export interface TaskOwner {
  readonly tool: string
  /** the permit that it ran with, where a human allowed it */
  readonly permit?: string
}

/** A server may keep a task for as long as it likes; we answer for it this long. */
const LONGEST_MS = 30 * 24 * 3_600_000
const MAX_ID = 1024

export function openTasks(store: Pick<Store, 'db' | 'write'>, clock: Clock): TaskOwners {
  return {
    async learn(resourceId, session, call, answer, permit) {
      const made = taskIn(answer)
      if (!made) return
      const now = clock.now()
      const row = {
        resource_id: resourceId,
        task_id: made.id,
        owner: ownerOf(session),
        tool: String(call.params.name),
        permit: permit ?? null,
        created_at: now,
        expires_at: now + Math.min(made.ttlMs ?? LONGEST_MS, LONGEST_MS),
      }
      const { owner, tool, permit: under, expires_at } = row
      const kept = await store.write(async (trx) => {
        await trx.deleteFrom('mcp_tasks').where('expires_at', '<=', now).execute()
        const { numInsertedOrUpdatedRows } = await trx
          .insertInto('mcp_tasks')
          .values(row)
          .onConflict((is) =>
            is.columns(['resource_id', 'task_id']).doUpdateSet({ tool, permit: under, expires_at }).where('mcp_tasks.owner', '=', owner),
          )
          .executeTakeFirstOrThrow()
        return numInsertedOrUpdatedRows !== 0n
      })
      // A server that gives one id to two callers would show one what the other did.
      if (!kept) throw new ChaperoneError('upstream_unavailable', 'The server gave a task an id that belongs to another caller.')
    },

    async ownerOf(resourceId, session, taskId) {
      const row = await store.db
        .selectFrom('mcp_tasks')
        .select(['owner', 'tool', 'permit'])
        .where('resource_id', '=', resourceId)
        .where('task_id', '=', taskId)
        .where('expires_at', '>', clock.now())
        .executeTakeFirst()
      if (row?.owner !== ownerOf(session)) return undefined
      return { tool: row.tool, ...(row.permit === null ? {} : { permit: row.permit }) }
    },
  }
}

/** The chain, without what changes with each session: whoever comes back as the same may go on. */
const ownerOf = (session: LiveSession) => canonicalJson(session.principal.chain.map(({ identity, delegation }) => [identity, delegation ?? null]))

/** A task that the answer to a call announces: `resultType: "task"` (modern) or `result.task` (2025-11-25). */
function taskIn(text: string): { readonly id: string; readonly ttlMs: number | undefined } | undefined {
  if (!text.includes('"taskId"') && !text.includes('\\u')) return undefined
  const span = spanAt(text, ['result'])
  const result: unknown = span && JSON.parse(text.slice(span.start, span.end))
  if (!isObject(result)) return undefined
  const task = isObject(result.task) ? result.task : result.resultType === 'task' ? result : undefined
  if (!task || typeof task.taskId !== 'string') return undefined
  if (task.taskId === '' || task.taskId.length > MAX_ID)
    throw new ChaperoneError('upstream_unavailable', 'The server gave a task an id that cannot be kept.')
  const ttl = task.ttlMs ?? task.ttl
  return { id: task.taskId, ttlMs: typeof ttl === 'number' && ttl > 0 ? ttl : undefined }
}

/** Whether the answer to this request may announce a task. */
export const mayMakeTask = (message: Request): boolean => message.method === 'tools/call'

/** The tasks that a message names. */
export function tasksNamed(message: Request | Notification): readonly string[] {
  const { method, params } = message
  if (method.startsWith('tasks/') && typeof params.taskId === 'string') return [params.taskId]
  if (method !== 'subscriptions/listen' || !isObject(params.notifications)) return []
  const ids = params.notifications.taskIds
  return Array.isArray(ids) ? ids.map(String) : []
}

/** Whether news of a task asks the client for something (SEP-2663). What cannot be read may. */
export function asksByTask(message: UpstreamMessage): boolean {
  if (!message.method?.startsWith('notifications/tasks')) return false
  try {
    const params = memberOf(message, ['params'])
    return isObject(params) && Object.keys(params).some((key) => key.toLowerCase() === 'inputrequests')
  } catch {
    return true
  }
}

/** The answer of a server that has no such task. */
export const noSuchTask = (message: Request | Notification): ProtocolError =>
  new ProtocolError(INVALID_PARAMS, 'Unknown task.', { id: message.kind === 'request' ? message.id : undefined, http: 200, code: 'not_found' })

/** A list of tasks (2025-11-25) with only those of the caller. */
export async function ownTasksOnly(text: string, isOwn: (taskId: string) => Promise<boolean>): Promise<string> {
  const list = spanAt(text, ['result', 'tasks'])
  if (!list) return text
  const kept: string[] = []
  for (const item of itemsOf(text, list.start)) {
    const one = text.slice(item.start, item.end)
    const task: unknown = JSON.parse(one)
    if (isObject(task) && typeof task.taskId === 'string' && (await isOwn(task.taskId))) kept.push(one)
  }
  return edited(text, [{ ...list, text: `[${kept.join(',')}]` }])
}

const EXTENSION = 'io.modelcontextprotocol/tasks'

/** The refusal of a modern request about tasks whose client did not say that it knows them (extension, section on negotiation). */
export function lacksTasks(message: Request | Notification): ProtocolError | undefined {
  const meta = message.params._meta
  const capabilities = isObject(meta) ? meta[META_CAPABILITIES] : undefined
  if (message.kind !== 'request' || !message.method.startsWith('tasks/') || !isObject(capabilities)) return undefined
  if (isObject(capabilities.extensions) && EXTENSION in capabilities.extensions) return undefined
  return new ProtocolError(MISSING_CAPABILITY, `${message.method} needs the extension ${EXTENSION}.`, {
    id: message.id,
    code: 'unsupported',
    data: { requiredCapabilities: { extensions: { [EXTENSION]: {} } } },
  })
}
