/** W5: 64 sessions of stdio servers: how many processes, how much memory above idle, and what is left afterwards. */
import { readdirSync, readFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { fileURLToPath } from 'node:url'
import { mcpServerSpec } from '../../src/catalog/mcp-server.ts'
import type { ChaperoneOrder, ChaperoneSaid } from '../chaperone.ts'
import { type Result, type Row, rowOf, start, stop, usage } from '../measure.ts'
import type { Plan } from './mcp.ts'

const SESSIONS = 64
const server = fileURLToPath(new URL('../echo-stdio.ts', import.meta.url))

interface Process {
  readonly pid: number
  readonly parent: number
  readonly zombie: boolean
  /** proportional: what is shared with other processes counts once */
  readonly mb: number
}

/** What runs below a process, itself left out. */
function below(root: number): Process[] {
  const all = readdirSync('/proc').flatMap((name) => {
    try {
      const status = readFileSync(`/proc/${Number(name)}/status`, 'utf8')
      return [{ pid: Number(name), parent: Number(/^PPid:\s+(\d+)/m.exec(status)?.[1]), zombie: /^State:\s+Z/m.test(status) }]
    } catch {
      return []
    }
  })
  const found = new Set([root])
  for (let before = 0; before !== found.size; ) {
    before = found.size
    for (const one of all) if (found.has(one.parent)) found.add(one.pid)
  }
  found.delete(root)
  return all.filter(({ pid }) => found.has(pid)).map((one) => ({ ...one, mb: one.zombie ? 0 : shareMb(one.pid) }))
}

function shareMb(pid: number): number {
  try {
    return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0) / 1024
  } catch {
    return 0
  }
}

export async function w5(plan: Plan): Promise<Result> {
  const rows: Row[] = []
  const notes: string[] = []
  for (const identities of [1, 8]) {
    const { row, said } = await measured(identities, plan.passes)
    rows.push(row)
    notes.push(...said)
  }
  notes.push('rps: sessions opened (handshake and one call) a second; p50, p99: of one such opening; rss: of the gateway alone, above idle')
  notes.push('the processes are Node (bench/echo-stdio.ts), isolation: none; their memory is their own, and what they share is counted once (PSS)')
  return { workload: 'w5', rows, to_floor: null, floor: 'none: a forwarder has no processes to share', notes }
}

async function measured(identities: number, passes: number): Promise<{ row: Row; said: string[] }> {
  const order: ChaperoneOrder = {
    documents: [
      {
        kind: 'mcp',
        name: 'bench',
        spec: mcpServerSpec.parse({ command: [process.execPath, server], isolation: 'none', trusted: true, tools: { echo: { effects: ['read'] } } }),
      },
      { kind: 'role', name: 'bench', spec: { allow: [{ mcp: 'bench', tools: ['echo'] }] } },
    ],
    roles: ['bench'],
    more: identities - 1,
  }
  const chaperone = await start<ChaperoneSaid>('chaperone.ts', order)
  const { said } = chaperone
  const pid = chaperone.child.pid!
  const agent = new Agent({ keepAlive: true, maxSockets: 16, ca: said.ca, servername: 'localhost' })
  const url = `https://localhost:${said.web.split(':').at(-1)}/mcp/bench`
  const post = (token: string, body: object | undefined, headers: Record<string, string> = {}) =>
    new Promise<{ status: number; text: string; session: string | undefined }>((done, fail) => {
      const out = request(
        url,
        {
          agent,
          method: body === undefined ? 'DELETE' : 'POST',
          headers: {
            Authorization: `Bearer ${token}`,
            'Content-Type': 'application/json',
            Accept: 'application/json, text/event-stream',
            'MCP-Protocol-Version': '2025-11-25',
            ...headers,
          },
        },
        (answer) => {
          let text = ''
          answer.setEncoding('utf8')
          answer.on('data', (chunk: string) => {
            text += chunk
          })
          answer.on('end', () => done({ status: answer.statusCode ?? 0, text, session: answer.headers['mcp-session-id'] as string | undefined }))
        },
      )
      out.on('error', fail)
      out.end(body === undefined ? undefined : JSON.stringify(body))
    })

  const open = async (token: string) => {
    const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'bench', version: '1' } }
    const hello = await post(token, { jsonrpc: '2.0', id: 1, method: 'initialize', params })
    if (hello.session === undefined) throw new Error(`initialize: ${hello.status} ${hello.text}`)
    const session = { 'Mcp-Session-Id': hello.session }
    await post(token, { jsonrpc: '2.0', method: 'notifications/initialized' }, session)
    const called = await post(token, { jsonrpc: '2.0', id: 2, method: 'tools/call', params: { name: 'echo', arguments: { text: 'x' } } }, session)
    if (!called.text.includes('echo: x')) throw new Error(`tools/call: ${called.status} ${called.text}`)
    return { token, session }
  }

  try {
    const tokens = [said.agent.token, ...said.others]
    const end = ({ token, session }: Awaited<ReturnType<typeof open>>) => post(token, undefined, session)
    // Warm: code that is compiled on first use is no cost of a session.
    for (const token of tokens) await end(await open(token))
    const samples: { rps: number; p50: number; p99: number; cpuMs: number; rssMb: number }[] = []
    const lines: string[] = []
    for (let pass = 0; pass < passes; pass++) {
      await settled(pid)
      const idle = usage(pid)
      const begin = performance.now()
      const times: number[] = []
      const sessions = await Promise.all(
        Array.from({ length: SESSIONS }, async (_, i) => {
          const from = performance.now()
          const session = await open(tokens[i % tokens.length]!)
          times.push(performance.now() - from)
          return session
        }),
      )
      const seconds = (performance.now() - begin) / 1000
      const busy = usage(pid)
      // The warden is a shell of its own; what runs the server is Node.
      const children = below(pid).filter(({ mb }) => mb > 5)
      const childMb = children.reduce((sum, { mb }) => sum + mb, 0)
      await Promise.all(sessions.map(end))
      await settled(pid)
      const left = below(pid)
      times.sort((a, b) => a - b)
      const rssMb = Math.max(0, busy.rssMb - idle.rssMb)
      samples.push({
        rps: SESSIONS / seconds,
        p50: times[times.length >> 1]!,
        p99: times.at(-1)!,
        cpuMs: ((busy.cpuMs - idle.cpuMs) / SESSIONS) * 1000,
        rssMb,
      })
      lines.push(
        `${SESSIONS} sessions of ${identities}: ${children.length} processes (wanted ${identities}), gateway ${rssMb.toFixed(1)} MB above idle (${idle.rssMb.toFixed(0)}), processes ${childMb.toFixed(1)} MB, together ${(rssMb + childMb).toFixed(1)} MB; afterwards ${left.filter(({ zombie }) => zombie).length} zombies, ${left.filter(({ mb }) => mb > 5).length} left`,
      )
    }
    return { row: rowOf(`chaperone ${identities} x ${SESSIONS / identities}`, SESSIONS, samples), said: lines }
  } finally {
    agent.destroy()
    await stop(chaperone.child)
  }
}

/** Until no server process is left, at most five seconds. */
async function settled(pid: number): Promise<void> {
  for (let i = 0; i < 50 && below(pid).some(({ mb, zombie }) => zombie || mb > 5); i++) await new Promise((done) => setTimeout(done, 100))
}
