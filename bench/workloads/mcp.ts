import { mcpServerSpec } from '../../src/catalog/mcp-server.ts'
import type { ChaperoneSaid } from '../chaperone.ts'
import { asked, type Contender, common, contest, type Era, legacySession, type Plan } from '../contest.ts'
import { type Result, start, stop, toFloor } from '../measure.ts'
import { peers } from '../peers.ts'

export type { Plan } from '../contest.ts'

/** One tool of bench/upstream.ts, as it is called. */
interface Call {
  readonly tool: 'echo' | 'big' | 'stream'
  readonly params: Readonly<Record<string, unknown>>
  readonly expect: string
}

const echo: Call = { tool: 'echo', params: { name: 'echo', arguments: { text: 'x'.repeat(200) } }, expect: 'echo: x' }
const big: Call = { tool: 'big', params: { name: 'big', arguments: {} }, expect: 'yyyy' }
const streamed: Call = { tool: 'stream', params: { name: 'stream', arguments: {}, _meta: { progressToken: 'p' } }, expect: 'event 8' }

/** 200 rules with argument conditions; the one that allows comes last. */
const manyRules = Array.from({ length: 200 }, (_, i) => ({ mcp: 'bench', tools: ['echo'], args: { text: i === 199 ? 'x*' : `only-${i}-*` } }))
const oneRule = [{ mcp: 'bench', tools: ['echo', 'big', 'stream'] }]

interface Shape {
  readonly mutual?: boolean
  readonly allow?: readonly unknown[]
  readonly eras?: readonly Era[]
  readonly calls?: readonly Call[]
  readonly concurrency: readonly number[]
  readonly peers?: boolean
}

export const w1 = (plan: Plan, only: { readonly peers: boolean }) => measured('w1', plan, { concurrency: [1, 16, 64], peers: only.peers })

export const w2 = (plan: Plan) => measured('w2', plan, { mutual: true, allow: manyRules, eras: ['legacy'], concurrency: [1, 16, 64] })

/** Every answer to one call has the same size, so the ratio of requests is that of bytes. */
export const w3 = (plan: Plan) => measured('w3', plan, { calls: [big, streamed], concurrency: [16] })

async function measured(workload: string, plan: Plan, shape: Shape): Promise<Result> {
  const { mutual = false, allow = oneRule, eras = ['legacy', 'modern'], calls = [echo] } = shape
  const upstream = await start<{ port: number }>('upstream.ts')
  const url = `http://127.0.0.1:${upstream.said.port}/`
  const tools = Object.fromEntries(['echo', 'big', 'stream'].map((name) => [name, { effects: ['read'] }]))
  const chaperone = await start<ChaperoneSaid>('chaperone.ts', {
    documents: [
      { kind: 'mcp', name: 'bench', spec: mcpServerSpec.parse({ url, trusted: true, tools }) },
      { kind: 'role', name: 'bench', spec: { allow } },
    ],
    roles: ['bench'],
  })
  const { said } = chaperone
  const tls = { ...said.server, ...(mutual ? { ca: said.identityCa } : {}) }
  const floor = await start<{ port: number }>('floor.ts', { tls, upstream: upstream.said.port })
  const others = shape.peers ? await peers({ upstream: url }) : { running: [], notes: [] }
  const load = await start<{ ready: true }>('load.ts')

  try {
    const tls = { ca: said.ca, ...(mutual ? { cert: said.agent.cert, key: said.agent.key } : {}) }
    const bearer: Record<string, string> = mutual ? {} : { Authorization: `Bearer ${said.agent.token}` }
    const chaperoneUrl = `https://localhost:${(mutual ? said.data : said.web).split(':').at(-1)}/mcp/bench`
    const floorUrl = `https://localhost:${floor.said.port}/`
    const contenders: Contender[] = []
    for (const era of eras) {
      const session = era === 'legacy' ? await legacySession(chaperoneUrl, tls, { ...asked(era, 'initialize').headers, ...bearer }) : {}
      for (const { tool, params, expect } of calls) {
        const { headers, body } = asked(era, 'tools/call', params)
        const suffix = `${calls.length > 1 ? ` ${tool}` : ''}${eras.length > 1 ? ` ${era}` : ''}`
        const one = { body, expect, ...tls }
        const floored = { ...headers, ...bearer, 'Mcp-Session-Id': 'bench' }
        contenders.push(
          { name: `floor${suffix}`, pid: floor.child.pid!, order: { ...one, url: floorUrl, headers: floored } },
          {
            name: `chaperone${suffix}`,
            pid: chaperone.child.pid!,
            order: { ...one, url: chaperoneUrl, headers: { ...headers, ...bearer, ...session } },
          },
        )
      }
    }
    const { body } = asked('legacy', 'tools/call', echo.params)
    for (const { name, pid, url, headers } of others.running) {
      contenders.push({ name, pid, order: { url, headers: { ...common, ...headers }, body, expect: echo.expect } })
    }
    const { rows, notes, samples } = await contest(plan, load.child, contenders, shape.concurrency)
    const rss = [...samples].filter(([key]) => key.startsWith('chaperone')).flatMap(([, of]) => of.map(({ rssMb }) => rssMb))
    const passes = [...samples.values()].at(-1)!.map((_, pass) => rss.filter((_, i) => i % plan.passes === pass))
    return {
      workload,
      rows,
      to_floor: toFloor(rows),
      floor: 'bare TLS forwarder in Node, JSON.parse and a set look-up; store of chaperone: SQLite WAL, synchronous=FULL',
      notes: [...others.notes, ...notes, `rss of chaperone after each pass: ${passes.map((mb) => Math.max(...mb).toFixed(0)).join(', ')} MB`],
    }
  } finally {
    await Promise.all([load.child, floor.child, chaperone.child, upstream.child].map(stop))
    for (const peer of others.running) await peer.stop()
  }
}
