import { PassThrough } from 'node:stream'
import type { Credential } from '../../src/api/contract.ts'
import type { Envelope } from '../../src/audit/record.ts'
import { type Held, heldOf, type Keeper } from '../../src/client/credential.ts'
import { openLoopback } from '../../src/client/loopback.ts'
import { runShim } from '../../src/client/shim.ts'
import { type Answered, ask, type House, house, keyAndCsr } from '../parts/house.ts'
import { type Fixture, startFixture } from './fixture/fixture.ts'

interface Test {
  after(work: () => Promise<void>): void
}

/** A whole Chaperone with one fixture of both eras behind it, and whoever the test wants at its doors. */
export interface Whole {
  readonly home: House
  readonly fixture: Fixture
  /** what is durable by now */
  readonly records: Envelope[]
  /** What reached the server that says this. */
  reached(text: string): number
  /** What reached it and asks for something, oldest first. The end of an earlier test's session may arrive at any time: it asks for nothing. */
  asked(): string[]
  credential(name: string, ttl?: string): Promise<Held>
  token(name: string): Promise<string>
}

export async function whole(t: Test, documents: (url: string) => string): Promise<Whole> {
  const fixture = await startFixture({ era: 'both' })
  t.after(() => fixture.close())
  const home = await house(t)
  await home.apply(documents(fixture.url))
  const records: Envelope[] = []
  home.server.parts.audit.watch((envelope) => records.push(envelope))
  return {
    home,
    fixture,
    records,
    reached: (text) => fixture.world.received.filter(({ body }) => body.includes(text)).length,
    asked: () =>
      fixture.world.received
        .filter(({ verb, body }) => verb !== 'DELETE' && !body.includes('"notifications/cancelled"'))
        .map(({ verb, body }) => `${verb} ${body}`),
    async credential(name, ttl = '10m') {
      const { key, csr } = keyAndCsr()
      return heldOf(home.server.addresses.data, key, await home.dana.api.call<Credential>('POST', '/v1/issue', { name, csr, ttl }))
    },
    async token(name) {
      const audience = `https://${home.server.trustDomain}`
      return (await home.dana.api.call<{ token: string }>('POST', '/v1/issue', { name, token: { audience } })).token
    },
  }
}

export const keeperOf = (held: Held): Keeper => ({
  current: () => held,
  onRenew: () => {},
  signal: new AbortController().signal,
  close: async () => {},
})

/** One HTTP request at one of the doors, by somebody. */
export type Door = (path: string, more?: { method?: string; headers?: Record<string, string>; body?: string }) => Promise<Answered>

const COMMON = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }

const post =
  (address: string, headers: Record<string, string>, shown: { key?: string; cert?: string } = {}): Door =>
  (path, more = {}) =>
    ask(address, path, { method: 'POST', ...more, headers: { ...COMMON, ...headers, ...more.headers }, ...shown })

export const byCertificate = (address: string, { key, certificate }: Held): Door => post(address, {}, { key, cert: certificate })
export const byToken = (address: string, token: string): Door => post(address, { authorization: `Bearer ${token}` })
export const byNothing = (address: string, headers: Record<string, string> = {}): Door => post(address, headers)

export const MODERN = '2026-07-28'
export const ENVELOPE = { 'io.modelcontextprotocol/protocolVersion': MODERN, 'io.modelcontextprotocol/clientCapabilities': {} }

/** A request of the modern era, with the headers that repeat it. */
export function modern(method: string, params: Record<string, unknown> = {}, id: string | number = 1) {
  const named = params.name ?? params.uri
  return {
    headers: { 'mcp-protocol-version': MODERN, 'mcp-method': method, ...(typeof named === 'string' ? { 'mcp-name': named } : {}) },
    body: JSON.stringify({ jsonrpc: '2.0', id, method, params: { ...params, _meta: ENVELOPE } }),
  }
}

/** A handshake of the legacy era at this path: the headers of the MCP session. */
export async function shakeHands(door: Door, path: string, version = '2025-11-25', capabilities: object = {}): Promise<Record<string, string>> {
  const params = { protocolVersion: version, capabilities, clientInfo: { name: 'regressions', version: '1' } }
  const opened = await door(path, { body: JSON.stringify({ jsonrpc: '2.0', id: 'hello', method: 'initialize', params }) })
  const id = opened.headers['mcp-session-id']
  if (opened.status !== 200 || typeof id !== 'string') throw new Error(`no session: ${opened.status} ${opened.text}`)
  const session = { 'mcp-session-id': id, 'mcp-protocol-version': version }
  await door(path, { headers: session, body: JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' }) })
  return session
}

export const legacy = (method: string, params: Record<string, unknown> = {}, id: string | number = 1) =>
  JSON.stringify({ jsonrpc: '2.0', id, method, params })

/** A way to have a tool called: what comes back, as text. */
export type Way = (tool: string) => Promise<string>

/** The shim as a desktop client would use it: the answer to the one call. */
export const throughShim =
  (held: Held, server: string | undefined, era: 'legacy' | 'modern', prefix = ''): Way =>
  async (tool) => {
    const input = new PassThrough()
    const output = new PassThrough()
    const exit = runShim({ server, input, output, say: () => {}, connect: async () => keeperOf(held) })
    const params = { name: `${prefix}${tool}`, arguments: {} }
    const lines =
      era === 'modern'
        ? [modern('tools/call', params, 'the call').body]
        : [
            legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'shim', version: '1' } }, 'hello'),
            JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' }),
            legacy('tools/call', params, 'the call'),
          ]
    for (const line of lines) input.write(`${line}\n`)
    let said = ''
    for await (const chunk of output) {
      said += chunk
      if (said.split('\n').some((line) => line.includes('"the call"'))) break
    }
    input.end()
    await exit
    return said.split('\n').find((line) => line.includes('"the call"')) ?? ''
  }

/** `chaperone mcp proxy`, used by an ordinary HTTP client. */
export const throughLoopback =
  (held: Held, server: string, era: 'legacy' | 'modern'): Way =>
  async (tool) => {
    const loopback = await openLoopback({ server, keeper: keeperOf(held) })
    const door: Door = async (_, more = {}) => {
      const answer = await fetch(loopback.url, { method: 'POST', ...more, headers: { ...COMMON, ...more.headers } })
      return { status: answer.status, text: await answer.text(), headers: Object.fromEntries(answer.headers) }
    }
    try {
      return await overHttp(door, '', era)(tool)
    } finally {
      await loopback.close()
    }
  }

export const overHttp =
  (door: Door, path: string, era: 'legacy' | 'modern', prefix = ''): Way =>
  async (tool) => {
    const params = { name: `${prefix}${tool}`, arguments: {} }
    if (era === 'modern') return (await door(path, modern('tools/call', params))).text
    const session = await shakeHands(door, path)
    const { text } = await door(path, { headers: session, body: legacy('tools/call', params) })
    await door(path, { method: 'DELETE', headers: session })
    return text
  }
