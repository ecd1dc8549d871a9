import type { ChaperoneOrder, ChaperoneSaid } from '../chaperone.ts'
import type { LoadOrder, LoadResult } from '../load.ts'
import { ask, type Result, rowOf, type Sample, start, stop, toFloor, usage } from '../measure.ts'
import { peers } from '../peers.ts'

export interface Plan {
  readonly passes: number
  readonly ms: number
  readonly warmupMs: number
}

type Era = 'legacy' | 'modern'

const legacyBody = JSON.stringify({ jsonrpc: '2.0', id: 0, method: 'tools/call', params: { name: 'echo', arguments: { text: 'x'.repeat(200) } } })
const modernBody = JSON.stringify({
  jsonrpc: '2.0',
  id: 0,
  method: 'tools/call',
  params: {
    name: 'echo',
    arguments: { text: 'x'.repeat(200) },
    _meta: { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} },
  },
})
const common = { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream' }
const modernHeaders = { ...common, 'MCP-Protocol-Version': '2026-07-28', 'Mcp-Method': 'tools/call', 'Mcp-Name': 'echo' }

interface Contender {
  readonly name: string
  readonly pid: number
  readonly order: Omit<LoadOrder, 'concurrency' | 'warmupMs' | 'ms'>
}

/** 200 rules with argument conditions; the one that allows comes last. */
const manyRules = Array.from({ length: 200 }, (_, i) => ({ mcp: 'bench', tools: ['echo'], args: { text: i === 199 ? 'x*' : `only-${i}-*` } }))

export async function w1(plan: Plan, only: { readonly peers: boolean }): Promise<Result> {
  return measured('w1', plan, {
    mutual: false,
    role: { allow: [{ mcp: 'bench', tools: ['echo'] }] },
    eras: ['legacy', 'modern'],
    concurrency: [1, 16, 64],
    peers: only.peers,
  })
}

export async function w2(plan: Plan): Promise<Result> {
  return measured('w2', plan, { mutual: true, role: { allow: manyRules }, eras: ['legacy'], concurrency: [1, 16, 64], peers: false })
}

interface Shape {
  readonly mutual: boolean
  readonly role: unknown
  readonly eras: readonly Era[]
  readonly concurrency: readonly number[]
  readonly peers: boolean
}

async function measured(workload: string, plan: Plan, shape: Shape): Promise<Result> {
  const upstream = await start<{ port: number }>('upstream.ts')
  const url = `http://127.0.0.1:${upstream.said.port}/`
  const order: ChaperoneOrder = {
    documents: [
      {
        kind: 'mcp',
        name: 'bench',
        spec: { url, env: {}, headers: {}, read: [], write: [], network: true, trusted: true, tools: { echo: { effects: ['read'] } } },
      },
      { kind: 'role', name: 'bench', spec: shape.role },
    ],
    roles: ['bench'],
  }
  const chaperone = await start<ChaperoneSaid>('chaperone.ts', order)
  const { said } = chaperone
  const tls = { ...said.server, ...(shape.mutual ? { ca: said.identityCa } : {}) }
  const floor = await start<{ port: number }>('floor.ts', { tls, upstream: upstream.said.port })
  const others = shape.peers ? await peers({ upstream: url }) : { running: [], notes: [] }
  const load = await start<{ ready: true }>('load.ts').catch(() => undefined)
  if (!load) throw new Error('the load process did not start')

  try {
    const identity = shape.mutual ? { cert: said.agent.cert, key: said.agent.key } : {}
    const bearer: Record<string, string> = shape.mutual ? {} : { Authorization: `Bearer ${said.agent.token}` }
    const chaperoneUrl = `https://localhost:${(shape.mutual ? said.data : said.web).split(':').at(-1)}/mcp/bench`
    const floorUrl = `https://localhost:${floor.said.port}/`
    const contenders: Contender[] = []
    for (const era of shape.eras) {
      const suffix = shape.eras.length > 1 ? ` ${era}` : ''
      const body = era === 'modern' ? modernBody : legacyBody
      const headers = era === 'modern' ? modernHeaders : { ...common, 'MCP-Protocol-Version': '2025-11-25' }
      const session = era === 'legacy' ? await legacySession(chaperoneUrl, { ca: said.ca, ...identity }, { ...headers, ...bearer }) : {}
      contenders.push(
        {
          name: `floor${suffix}`,
          pid: floor.child.pid!,
          order: { url: floorUrl, ca: said.ca, ...identity, headers: { ...headers, ...bearer, 'Mcp-Session-Id': 'bench' }, body, expect: 'echo: x' },
        },
        {
          name: `chaperone${suffix}`,
          pid: chaperone.child.pid!,
          order: { url: chaperoneUrl, ca: said.ca, ...identity, headers: { ...headers, ...bearer, ...session }, body, expect: 'echo: x' },
        },
      )
    }
    for (const peer of others.running)
      contenders.push({
        name: peer.name,
        pid: peer.pid,
        order: { url: peer.url, headers: { ...common, ...peer.headers }, body: legacyBody, expect: 'echo: x' },
      })

    const samples = new Map<string, Sample[]>()
    const notes: string[] = [...others.notes]
    for (let pass = 0; pass < plan.passes; pass++) {
      for (const concurrency of shape.concurrency) {
        // The order rotates, so that nobody is always measured on a cold or a warm machine.
        for (let i = 0; i < contenders.length; i++) {
          const contender = contenders[(i + pass) % contenders.length]!
          const before = usage(contender.pid)
          const result = await ask<LoadResult>(load.child, { ...contender.order, concurrency, warmupMs: plan.warmupMs, ms: plan.ms })
          const after = usage(contender.pid)
          const key = `${contender.name}\n${concurrency}`
          if (result.failed > 0) notes.push(`${contender.name} at ${concurrency}: ${result.failed} failed: ${result.firstFailure ?? ''}`)
          const requests = (result.rps * (plan.ms + plan.warmupMs)) / 1000
          samples.set(key, [
            ...(samples.get(key) ?? []),
            {
              rps: result.rps,
              p50: result.p50,
              p99: result.p99,
              cpuMs: requests > 0 ? ((after.cpuMs - before.cpuMs) / requests) * 1000 : 0,
              rssMb: after.rssMb,
            },
          ])
        }
      }
    }
    const rows = [...samples].map(([key, of]) => rowOf(key.split('\n')[0]!, Number(key.split('\n')[1]), of))
    const store = 'SQLite WAL, synchronous=FULL'
    return {
      workload,
      rows,
      to_floor: toFloor(rows),
      floor: `bare TLS forwarder in Node, JSON.parse and a set look-up; store of chaperone: ${store}`,
      notes: [...new Set(notes)],
    }
  } finally {
    await Promise.all([load.child, floor.child, chaperone.child, upstream.child].map(stop))
    for (const peer of others.running) await peer.stop()
  }
}

/** `initialize` and `notifications/initialized`, as a stateful client does; the headers that its calls carry from then on. */
async function legacySession(
  url: string,
  tls: { readonly ca: string; readonly cert?: string; readonly key?: string },
  headers: Record<string, string>,
): Promise<Record<string, string>> {
  const { Agent, request } = await import('node:https')
  const agent = new Agent({ ...tls, servername: 'localhost', maxSockets: 1 })
  const post = (body: object, extra: Record<string, string>) =>
    new Promise<{ session: string | undefined; text: string; status: number }>((done, fail) => {
      const out = request(url, { agent, method: 'POST', headers: { ...headers, ...extra } }, (answer) => {
        let text = ''
        answer.on('data', (chunk) => {
          text += chunk
        })
        answer.on('end', () => done({ session: answer.headers['mcp-session-id'] as string | undefined, text, status: answer.statusCode ?? 0 }))
      })
      out.on('error', fail)
      out.end(JSON.stringify(body))
    })
  const opened = await post(
    {
      jsonrpc: '2.0',
      id: 1,
      method: 'initialize',
      params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'bench', version: '1' } },
    },
    {},
  )
  if (opened.status !== 200) throw new Error(`initialize: ${opened.status} ${opened.text}`)
  const session: Record<string, string> = opened.session === undefined ? {} : { 'Mcp-Session-Id': opened.session }
  await post({ jsonrpc: '2.0', method: 'notifications/initialized' }, session)
  agent.destroy()
  return session
}
