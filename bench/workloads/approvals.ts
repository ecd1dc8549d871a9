import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { Agent, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import type { RequestRow } from '../../src/api/requests-contract.ts'
import { mcpServerSpec } from '../../src/catalog/mcp-server.ts'
import { openApi } from '../../src/client/api.ts'
import { asked, type Plan } from '../contest.ts'
import { type ApprovalResult, start, stop } from '../measure.ts'
import type { Credentials, ParkingOrder, ParkingSaid } from '../parking-node.ts'

const CALLS = 100
/** An identity has 25 questions waiting at the most. */
const AGENTS = 5
const RETRIES = 2
const ROUNDS = 3
const READY_MS = 30_000
/** Whoever is not answered by then waits for another yes, which nobody gives. */
const ANSWER_MS = 8_000

/** W7: 100 calls wait for a human, the process is killed, another one starts; all are approved, and every client sends its call again, twice at once. */
export async function w7(plan: Plan): Promise<ApprovalResult> {
  const rows: ApprovalResult['rows'][number][] = []
  for (let pass = 0; pass < plan.passes; pass++) rows.push(await once())
  const sum = (of: 'lost' | 'twice') => rows.reduce((total, row) => total + row[of], 0)
  return {
    workload: 'w7',
    lost: sum('lost'),
    twice: sum('twice'),
    rows,
    notes: [
      'counted at the resource itself: lost never reached it, twice reached it more than once; killed with SIGKILL while the clients wait',
      `every client sends its call ${RETRIES} times at once after the approval; who had no answer in ${ANSWER_MS / 1000} s sends again`,
    ],
  }
}

async function once(): Promise<ApprovalResult['rows'][number]> {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-bench-w7-'))
  const undo: (() => unknown)[] = [() => rm(dir, { recursive: true, force: true })]
  try {
    const received = new Map<string, number>()
    const upstream = await resource((text) => received.set(text, (received.get(text) ?? 0) + 1))
    undo.push(upstream.close)
    const dataDir = join(dir, 'data')
    const documents = documentsFor(upstream.port)
    const before = await start<ParkingSaid>('parking-node.ts', { dataDir, first: { agents: AGENTS, documents } } satisfies ParkingOrder)
    undo.push(() => stop(before.child))
    const { ports, ca, people } = before.said
    const { approver, agents } = people!
    const api = openApi({ address: `localhost:${portOf(ports.data)}`, authorities: ca, identity: { key: approver.key, certificate: approver.cert } })
    undo.push(() => api.close())
    const waiting = async () => (await api.call<{ requests: readonly RequestRow[] }>('GET', '/v1/requests?mine=to_decide&limit=500')).requests

    const clients = agents.map((agent) => clientOf(agent, ca, ports.data))
    undo.push(() => {
      for (const client of clients) client.close()
    })
    // An approval is bound to the definition of its tool, and one of a tool that nobody had seen is good for no other. So it is seen first.
    await clients[0]!.list()
    const texts = Array.from({ length: CALLS }, (_, i) => `call ${i}`)
    const send = (text: string, i: number) => clients[i % AGENTS]!.call(text)
    const held = texts.map(send)
    await reached(async () => (await waiting()).length === CALLS)
    before.child.kill('SIGKILL')
    await Promise.all(held)

    const began = performance.now()
    const after = await start<ParkingSaid>('parking-node.ts', { dataDir, ports } satisfies ParkingOrder)
    undo.push(() => stop(after.child))
    const questions = await waiting()
    const startedMs = Math.round(performance.now() - began)
    for (const { id, seen } of questions) await api.call('POST', `/v1/requests/${id}/decide`, { verdict: 'approve', seen })
    // Who was not answered in time sends again, as clients do: what was approved and did not run is still there to be run.
    let answers: string[][] = []
    let left = texts
    for (let round = 0; round < ROUNDS && left.length > 0; round++) {
      answers = await Promise.all(left.map((text) => Promise.all(Array.from({ length: RETRIES }, () => send(text, texts.indexOf(text))))))
      left = left.filter((text) => !received.has(text))
    }
    if (left.length > 0) console.error(answers.flat().slice(0, 3).join('\n').slice(0, 2_000))
    const counts = texts.map((text) => received.get(text) ?? 0)
    return {
      workload: 'w7',
      parked: CALLS,
      kept: questions.length,
      ran: counts.filter((count) => count > 0).length,
      lost: counts.filter((count) => count === 0).length,
      twice: counts.filter((count) => count > 1).length,
      restart_ms: startedMs,
    }
  } finally {
    for (const step of undo.reverse()) await step()
  }
}

const portOf = (address: string) => Number(address.split(':').at(-1))

const documentsFor = (port: number) => [
  {
    kind: 'mcp',
    name: 'bench',
    spec: mcpServerSpec.parse({ url: `http://127.0.0.1:${port}/`, trusted: true, tools: { once: { effects: ['write'] } } }),
  },
  { kind: 'role', name: 'bench', spec: { ask: [{ mcp: 'bench', tools: ['once'], approvers: { role: 'bench-lead' } }] } },
  { kind: 'role', name: 'bench-lead', spec: {} },
]

/** Where the calls go, and where they are counted. */
async function resource(saw: (text: string) => void): Promise<{ readonly port: number; close(): void }> {
  const tools = [{ name: 'once', description: 'Does it', inputSchema: { type: 'object', properties: { text: { type: 'string' } } } }]
  const results: Readonly<Record<string, (params: { arguments?: { text?: string } }) => object>> = {
    'server/discover': () => ({ supportedVersions: ['2026-07-28'], capabilities: { tools: {} }, ttlMs: 0, cacheScope: 'private' }),
    'tools/list': () => ({ tools, ttlMs: 0, cacheScope: 'private' }),
    'tools/call': (params) => {
      saw(params.arguments?.text ?? '')
      return { content: [{ type: 'text', text: 'done' }] }
    },
  }
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const message = JSON.parse(Buffer.concat(chunks).toString() || '{}')
    if (message.id === undefined) return void response.writeHead(202).end()
    const result = { resultType: 'complete', ...results[message.method]?.(message.params ?? {}) }
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', id: message.id, result }))
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  return {
    port: (server.address() as AddressInfo).port,
    close() {
      server.closeAllConnections()
      server.close()
    },
  }
}

function clientOf({ cert, key }: Credentials, ca: string, address: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 64, servername: 'localhost', ca, cert, key })
  return {
    /** Resolves when it is over, however, with what was answered. */
    call: (text: string) => send('tools/call', { name: 'once', arguments: { text } }),
    list: () => send('tools/list', {}),
    close: () => agent.destroy(),
  }

  function send(method: string, params: Readonly<Record<string, unknown>>): Promise<string> {
    const { headers, body } = asked('modern', method, params)
    return new Promise((over) => {
      const signal = AbortSignal.timeout(ANSWER_MS)
      const out = request({ agent, host: '127.0.0.1', port: portOf(address), path: '/mcp/bench', method: 'POST', headers, signal }, (answer) => {
        let said = ''
        answer.setEncoding('utf8').on('data', (chunk: string) => {
          said += chunk
        })
        answer.once('close', () => over(said))
      })
      out.once('error', (error) => over(error.message))
      out.end(body)
    })
  }
}

async function reached(done: () => Promise<boolean>): Promise<void> {
  const until = performance.now() + READY_MS
  while (!(await done())) {
    if (performance.now() > until) throw new Error('w7: the calls were not parked in time')
    await wait(100)
  }
}
