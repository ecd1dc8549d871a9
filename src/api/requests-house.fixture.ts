import type { TestContext } from 'node:test'
import { Refusal } from '../access/types.ts'
import type { McpServerSpec } from '../catalog/mcp-server.ts'
import { describeCall } from '../gateways/mcp/describe.ts'
import { clientOf } from '../identity/delegation/client.fixture.ts'
import { findIdentity } from '../identity/directory.ts'
import type { LiveSession } from '../identity/types.ts'
import { openHouse } from './house.fixture.ts'
import type { RequestDetail, RequestRow } from './requests-contract.ts'

/** boris reports and may ask to write; keepers decide. carla has nothing to do with any of it. */
const DOCUMENTS = `kind: mcp
name: files
spec: { command: [files], tools: { read_file: { effects: [read] }, write_file: { effects: [write] }, delete_file: { effects: [destroy] } } }
---
kind: mcp
name: mail
spec: { command: [mail], tools: { send_mail: { effects: [egress] } } }
---
kind: role
name: writer
spec: { allow: [{ mcp: files, tools: ["write_*"] }] }
---
kind: role
name: keeper
spec: {}
---
kind: role
name: reporter
spec:
  allow: [{ mcp: [files, mail], tools: ["read_*", send_mail] }]
  ask: [{ mcp: files, tools: ["delete_*"], approvers: { role: keeper } }, { mcp: mail, tools: [confirm_mail], approvers: owner }]
  request:
    - { role: writer, max: 1h, reason: required, approvers: { role: keeper }, break_glass: true, start_in: 1h }
---
kind: user
name: boris
spec: { roles: [reporter] }
---
kind: user
name: carla
spec: {}
---
kind: user
name: erik
spec: { roles: [keeper, reporter] }
---
kind: user
name: fred
spec: { roles: [keeper] }
---
kind: user
name: gina
spec: { roles: [auditor] }
---
kind: user
name: hal
spec: { roles: [approver] }
---
kind: agent
name: bot
spec: { owner: boris, roles: [reporter] }
---
kind: agent
name: erik-bot
spec: { owner: erik, roles: [reporter, keeper] }
`

/** For tests of this room: the API with people who ask and people who decide. */
export async function openRequestHouse(t: TestContext, options: Parameters<typeof openHouse>[1] = {}) {
  const house = await openHouse(t, options)
  const { ask, signIn, store, clock, guard, state } = house
  const dana = await signIn('dana')
  const applied = await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text: DOCUMENTS }] })
  if (applied.status !== 200) throw new Error(JSON.stringify(applied.value))

  /** A client of a person: `boris/claude`. */
  async function client(owner: string, name: string): Promise<LiveSession> {
    const person = (await findIdentity(store.db, { name: owner }))!
    const { agent, delegationId } = await clientOf(store, person, name, clock.now())
    return signIn(`${owner}/${name}`, {
      chain: [{ identity: person.id }, { identity: agent.id, delegation: delegationId }],
      how: 'client',
      factorGiven: false,
    })
  }

  const wish = { kind: 'access', role: 'writer', for: '10m', reason: 'order 17' }
  async function asks(who: LiveSession, more: object = {}): Promise<RequestRow> {
    const { value, status } = await ask<RequestRow>(who, 'POST', '/v1/requests', { ...wish, ...more })
    if (status !== 200) throw new Error(JSON.stringify(value))
    return value
  }
  const show = (who: LiveSession, id: string) => ask<RequestDetail>(who, 'GET', `/v1/requests/${id}`)
  const list = async (who: LiveSession, query = '') =>
    (await ask<{ requests: RequestRow[] }>(who, 'GET', `/v1/requests${query}`)).value.requests.map(({ id }) => id)
  const decide = (who: LiveSession, { id, seen }: { id: string; seen: string }, more: object = {}) =>
    ask<RequestRow>(who, 'POST', `/v1/requests/${id}/decide`, { verdict: 'approve', seen, ...more })

  /** Calls a tool as a gateway does: the permit, or the question that it waits for. */
  async function calls(who: LiveSession, server: string, tool: string, args: Record<string, unknown> = {}) {
    const { resource, spec } = state.current().find('mcp', server)!
    const action = describeCall({ resource, spec: spec as McpServerSpec, tool, args })
    const bound = JSON.stringify({ tool, args })
    const call = () => ({ bound, shown: [{ title: 'Arguments', text: JSON.stringify(args, null, 2), form: 'json' as const }] })
    try {
      const permit = await guard.admit(who, action, { asking: { call }, bodies: [{ name: 'arguments', bytes: JSON.stringify(args) }] })
      guard.settle(permit, { status: 'ok' })
      return { permit: permit.id }
    } catch (error) {
      if (error instanceof Refusal) return { refused: error.decision.reason, parked: error.parked }
      throw error
    }
  }

  return { ...house, dana, client, asks, show, list, decide, calls }
}

/** What a stream says, until it says this. */
export async function readUntil(reader: ReadableStreamDefaultReader<string>, until: string): Promise<string> {
  let text = ''
  while (!text.includes(until)) {
    const { done, value } = await reader.read()
    if (done) return text
    text += value
  }
  return text
}
