/** Contenders under the same load, side by side: the requests that they get, the passes, and what was measured. */
import type { ChildProcess } from 'node:child_process'
import { Agent, request } from 'node:https'
import type { LoadOrder, LoadResult } from './load.ts'
import { ask, type Row, rowOf, type Sample, usage } from './measure.ts'

export interface Plan {
  readonly passes: number
  readonly ms: number
  readonly warmupMs: number
}

export type Era = 'legacy' | 'modern'

export interface Contender {
  readonly name: string
  readonly pid: number
  readonly order: Omit<LoadOrder, 'concurrency' | 'warmupMs' | 'ms'>
}

export interface Tls {
  readonly ca: string
  readonly cert?: string
  readonly key?: string
}

export const common = { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream' }

/** A request as a client of this era sends it; the load gives it its id. */
export function asked(era: Era, method: string, params: Readonly<Record<string, unknown>> = {}) {
  const { _meta: meta = {}, ...others } = params
  const envelope = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} }
  const _meta = era === 'modern' ? { ...envelope, ...(meta as object) } : (meta as object)
  const headers: Record<string, string> = {
    ...common,
    ...(era === 'modern'
      ? { 'MCP-Protocol-Version': '2026-07-28', 'Mcp-Method': method, ...(typeof params.name === 'string' ? { 'Mcp-Name': params.name } : {}) }
      : { 'MCP-Protocol-Version': '2025-11-25' }),
  }
  return { headers, body: JSON.stringify({ jsonrpc: '2.0', id: 0, method, params: Object.keys(_meta).length > 0 ? { ...others, _meta } : others }) }
}

/** Every contender at every concurrency, `passes` times. */
export async function contest(
  plan: Plan,
  load: ChildProcess,
  contenders: readonly Contender[],
  concurrencies: readonly number[],
): Promise<{ readonly rows: readonly Row[]; readonly notes: readonly string[]; readonly samples: ReadonlyMap<string, readonly Sample[]> }> {
  const samples = new Map<string, Sample[]>()
  const notes = new Set<string>()
  for (let pass = 0; pass < plan.passes; pass++) {
    for (const concurrency of concurrencies) {
      // The order rotates, so that nobody is always measured on a cold or a warm machine.
      for (let i = 0; i < contenders.length; i++) {
        const contender = contenders[(i + pass) % contenders.length]!
        const before = usage(contender.pid)
        const result = await ask<LoadResult>(load, { ...contender.order, concurrency, warmupMs: plan.warmupMs, ms: plan.ms })
        const after = usage(contender.pid)
        const key = `${contender.name}\n${concurrency}`
        if (result.failed > 0) notes.add(`${contender.name} at ${concurrency}: ${result.failed} failed: ${result.firstFailure ?? ''}`)
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
  return { rows, notes: [...notes], samples }
}

/** `initialize` and `notifications/initialized`, as a stateful client does; the headers that its calls carry from then on. */
export async function legacySession(url: string, tls: Tls, headers: Record<string, string>): Promise<Record<string, string>> {
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
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'bench', version: '1' } }
  const opened = await post({ jsonrpc: '2.0', id: 1, method: 'initialize', params }, {})
  if (opened.status !== 200) throw new Error(`initialize: ${opened.status} ${opened.text}`)
  const session: Record<string, string> = opened.session === undefined ? {} : { 'Mcp-Session-Id': opened.session }
  await post({ jsonrpc: '2.0', method: 'notifications/initialized' }, session)
  agent.destroy()
  return session
}
