import { z } from 'zod'
import { REQUEST_KINDS, REQUEST_STATES } from '../../../access/requests/machine.ts'
import type { BuiltinTool } from '../builtin/types.ts'

/** What one answer holds at most (rule 11). */
export const OWN_LIMITS = { servers: 50, tools: 300, databases: 100, ways: 50, resources: 50, requests: 50, waitSeconds: 20 } as const

const requestId = z.string().regex(/^req_[0-9A-Za-z]{1,40}$/, 'is no id of a request')
const sentence = z.string().min(1).max(2_000)

export const ARGUMENTS = {
  whoami: z.strictObject({}),
  what_can_i_do: z.strictObject({
    server: z.string().min(1).max(128).optional().describe('Only this MCP server, with all of its tools.'),
  }),
  request_access: z.strictObject({
    role: z.string().min(1).max(128).describe('Name of the role, as `what_can_i_do` lists it under `may_request`.'),
    resource: z.string().min(1).max(200).optional().describe('Only on this resource: `kind/name`, such as `postgres/prod` or `mcp/files`.'),
    for: z.string().min(1).max(20).optional().describe('For how long: `10m`, `1h30m`. Default: as long as the role allows.'),
    reason: sentence.describe('Why, in one sentence that a human decides by; a ticket number where the role wants one.'),
    purpose: z.string().min(1).max(500).optional().describe('What the work is for. Shown to the human as your claim.'),
  }),
  request_status: z.strictObject({
    id: requestId.optional().describe('One request. Default: the newest of yours.'),
    wait: z.int().min(0).max(OWN_LIMITS.waitSeconds).optional().describe('Waits for so many seconds for a decision. Only with `id`.'),
  }),
  withdraw: z.strictObject({ id: requestId.describe('A request of yours that is not needed any more. What was granted is given back.') }),
} as const

export type OwnTool = keyof typeof ARGUMENTS

const request = z.object({
  id: z.string(),
  kind: z.enum(REQUEST_KINDS),
  what: z.string(),
  state: z.enum(REQUEST_STATES),
  next: z.string().describe('What this means for you, and what to do.'),
  page: z.string().describe('Where a human decides about it. Opening it approves nothing.'),
  approvers: z.string().optional().describe('Who can say yes.'),
  reason: z.string().optional().describe('Why it was asked for.'),
  said: z.string().optional().describe('What was said to a no.'),
  created_at: z.string(),
  until: z.string().optional().describe('Pending: a decision after that comes too late. Approved: it ends then.'),
})

export const RESULTS = {
  whoami: z.object({
    name: z.string(),
    kind: z.enum(['user', 'agent', 'node']),
    on_behalf_of: z.array(z.string()).describe('First the one behind it all. Empty: you act for yourself.'),
    limits: z.array(z.string()).optional().describe('What was left to you of all that; nobody can be asked for more than this here.'),
    session: z.object({ id: z.string(), began: z.string(), purpose: z.string().optional() }),
    credential_until: z.string().describe('It is renewed by itself where the client does so.'),
    granted: z.array(z.object({ role: z.string(), resource: z.string().optional(), until: z.string().optional(), request: z.string() })),
  }),
  what_can_i_do: z.object({
    servers: z.array(
      z.object({
        name: z.string(),
        allowed: z.array(z.string()).describe('Tools. What an argument decides is decided when it is called.'),
        asks: z.array(z.string()).describe('Tools that run when a human has said yes to the exact call.'),
      }),
    ),
    databases: z.array(z.string()).describe('Each is an MCP server of this name.'),
    limits: z.array(z.string()).optional().describe('What was left to you by those on whose behalf you act: all of the above is within it.'),
    may_request: z.array(
      z.object({
        role: z.string(),
        for_at_most: z.string().optional(),
        reason: z.string().optional().describe('Whether a reason is needed, or the form that it must have.'),
        resources: z.array(z.string()),
      }),
    ),
    cut: z.array(z.string()).optional().describe('What was left out.'),
  }),
  request_access: request,
  request_status: z.object({ requests: z.array(request) }),
  withdraw: request,
} as const

const READS = { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false }

const SAID: Readonly<Record<OwnTool, Pick<BuiltinTool, 'title' | 'description' | 'annotations'>>> = {
  whoami: { title: 'Who am I', description: 'Your name here, on whose behalf you act, and what you were given for a while.', annotations: READS },
  what_can_i_do: {
    title: 'What can I do',
    description: 'The servers, tools and databases that you may use, what a human is asked about first, and which roles you may ask for.',
    annotations: READS,
  },
  request_access: {
    title: 'Ask for access',
    description:
      'Asks a human for a role for a while. Use it after a refusal that names a role, then see `request_status`. To have one exact call approved do not use this: send the call itself.',
    annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
  },
  request_status: {
    title: 'What became of a request',
    description: 'What was decided about requests of yours, with what to do next. Can wait for a decision.',
    annotations: READS,
  },
  withdraw: {
    title: 'Withdraw a request',
    description: 'Takes back a request that is not needed any more, or gives back what it granted.',
    annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  },
}

const schemaOf = (shape: z.ZodType, io: 'input' | 'output') =>
  z.toJSONSchema(shape, { target: 'draft-2020-12', io }) as Readonly<Record<string, unknown>>

/** Made once, when somebody first asks. */
let tools: readonly BuiltinTool[] | undefined

export function ownTools(): readonly BuiltinTool[] {
  tools ??= (Object.keys(ARGUMENTS) as OwnTool[]).map((name) => ({
    name,
    ...SAID[name],
    inputSchema: schemaOf(ARGUMENTS[name], 'input'),
    outputSchema: schemaOf(RESULTS[name], 'output'),
  }))
  return tools
}
