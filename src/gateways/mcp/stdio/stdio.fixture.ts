import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Permit } from '../../../access/types.ts'
import type { Draft } from '../../../audit/record.ts'
import { mcpServerSpec } from '../../../catalog/mcp-server.ts'
import { type Clock, systemClock } from '../../../clock.ts'
import type { ChaperoneError } from '../../../errors.ts'
import type { LiveSession } from '../../../identity/types.ts'
import type { Answer } from '../answer.ts'
import { MCP_LIMITS, type McpLimits } from '../limits.ts'
import type { Asker, Upstream } from '../types.ts'
import { type Notification, type Request, readMessages } from '../wire.ts'
import { isolator } from './isolation.ts'
import { type StdioPool, stdioPool } from './process-pool.ts'

/** A stdio server in a few lines. Its tools do what their name says; all that it is sent it can show. */
const SERVER = `
import { spawn } from 'node:child_process'
import * as fs from 'node:fs'
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
const attempt = (act) => { try { return act() ?? 'done' } catch (error) { return error.code ?? error.message } }
const others = () => fs.readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name) && Number(name) !== process.pid)
const mode = process.argv[2]
if (mode === 'dies') { console.error('my token is ' + process.env.TOKEN); process.exit(3) }
if (mode === 'chatty') setInterval(() => process.stderr.write('x'.repeat(1000) + '\\n'), 20)
const sent = []
const say = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\\n')
const hold = []
createInterface({ input: process.stdin }).on('line', (line) => {
  const message = JSON.parse(line)
  sent.push(message)
  const { id, method, params } = message
  if (mode === 'mute') return
  if (mode === 'allergic' && method !== 'initialize' && !method?.startsWith('notifications/')) process.exit(1)
  if (method === undefined) return
  if (id === undefined) return
  if (mode === 'slow' && method === 'initialize') return setTimeout(() => say({ id, result: { protocolVersion: params.protocolVersion, capabilities: {}, serverInfo: { name: 's', version: '1' } } }), 100)
  if (mode === 'held' && method === 'initialize') {
    const greet = () => say({ id, result: { protocolVersion: params.protocolVersion, capabilities: {}, serverInfo: { name: 's', version: '1' } } })
    return (function look() { fs.existsSync(process.argv[1] + '.go') ? greet() : setTimeout(look, 5) })()
  }
  if (method === 'initialize' && params.protocolVersion === 'wrong') return say({ id, error: { code: -32602, message: 'no such version' } })
  if (method === 'initialize') return say({ id, result: { protocolVersion: params.protocolVersion, capabilities: {}, serverInfo: { name: 's', version: '1' }, pid: process.pid } })
  const text = (value) => say({ id, result: { content: [{ type: 'text', text: JSON.stringify(value) }] } })
  if (method !== 'tools/call') return say({ id, result: { method, pid: process.pid } })
  const { name, arguments: args = {} } = params
  if (name === 'say') { for (const one of args.messages) say(one); return text('said') }
  if (name === 'sent') return text(sent)
  if (name === 'pid') return text(process.pid)
  if (name === 'environment') return text(process.env)
  if (name === 'hang') return hold.push(id)
  if (name === 'release') { for (const one of hold.splice(0)) say({ id: one, result: { late: true } }); return text('released') }
  if (name === 'die') process.exit(7)
  if (name === 'killed') process.kill(process.pid, 'SIGSEGV')
  if (name === 'eat') { globalThis.food = Buffer.alloc(args.bytes, 1); return text('eaten') }
  if (name === 'feed') { spawn(process.execPath, ['-e', 'globalThis.food = Buffer.alloc(' + args.bytes + ', 1); setInterval(() => {}, 1000)'], { stdio: 'ignore' }); return text('fed') }
  if (name === 'read') return text(attempt(() => fs.readFileSync(args.path, 'utf8')))
  if (name === 'list') return text(attempt(() => fs.readdirSync(args.path)))
  if (name === 'write') return text(attempt(() => fs.writeFileSync(args.path, 'mine')))
  if (name === 'whoami') return text({ uid: process.getuid(), cwd: process.cwd(), home: process.env.HOME })
  if (name === 'processes') return text(others().flatMap((pid) => { try { return [fs.readFileSync('/proc/' + pid + '/' + args.what, 'utf8')] } catch { return [] } }))
  if (name === 'connect') return connect(args.port, '127.0.0.1').on('connect', () => text('connected')).on('error', (error) => text(error.code))
  // A daemon: a session of its own, its parent gone, and nothing of ours open.
  if (name === 'daemon') {
    const child = spawn('/bin/sh', ['-c', 'setsid sleep ' + (args.seconds ?? 1234) + ' >/dev/null 2>&1 </dev/null & echo $!'], { cwd: args.cwd ?? process.cwd() })
    let out = ''
    child.stdout.on('data', (chunk) => { out += chunk })
    return child.on('close', () => text(out.trim()))
  }
  say({ id, result: {} })
})
`

export interface PoolFixture {
  readonly dataDir: string
  readonly pool: StdioPool
  readonly records: Draft[]
  readonly logs: { what: string; facts: Record<string, unknown> }[]
  session(ask?: { who?: string; spec?: object; mode?: string; era?: 'legacy' | 'modern'; asker?: Partial<Asker>; server?: string }): TestSession
  of(type: Draft['type']): Draft[]
  /** Lets servers of the mode `held` answer the handshake. */
  letGo(): void
  close(): Promise<void>
}

// biome-ignore lint/suspicious/noExplicitAny: what a test looks into is not worth a type
type Json = any

export interface TestSession {
  readonly upstream: Upstream
  readonly heard: Json[]
  readonly ended: ChaperoneError[]
  /** The result; rejects with the error, ours or the server's. */
  request(method: string, params?: object, more?: { id?: number | string; signal?: AbortSignal; answer?: TestAnswer }): Promise<Json>
  notify(method: string, params?: object): Promise<Json>
  tool(name: string, args?: object, more?: { id?: number | string; signal?: AbortSignal; answer?: TestAnswer }): Promise<Json>
  hello(capabilities?: object, protocolVersion?: string): Promise<Json>
  listen(): TestAnswer
}

/** Takes what is written to a client. */
export class TestAnswer implements Answer {
  began: Answer['began'] = 'no'
  gone = false
  streams = true
  readonly texts: string[] = []
  status = 0
  ends = 0
  #watchers: (() => void)[] = []
  whenGone(see: () => void): void {
    if (this.gone) see()
    else this.#watchers.push(see)
  }
  leave(): void {
    this.gone = true
    for (const see of this.#watchers) see()
  }
  send(status: number, body?: string | Buffer): void {
    this.began = 'body'
    this.status = status
    this.ends++
    if (body !== undefined) this.texts.push(body.toString())
  }
  begin(): void {
    this.began = 'body'
  }
  open(): void {
    if (this.began === 'no') this.began = 'stream'
  }
  async write(chunk: Buffer | string): Promise<void> {
    for (const line of chunk.toString().split('\n')) if (line.startsWith('data: ')) this.texts.push(line.slice(6))
  }
  end(): void {
    this.ends++
  }
  break(): void {
    this.ends++
  }
  get messages(): Json[] {
    return this.texts.map((text) => JSON.parse(text))
  }
}

export const permitWith = (signal: AbortSignal = new AbortController().signal) => ({ signal }) as unknown as Permit

export const read = (message: object | string) => {
  const bytes = Buffer.from(typeof message === 'string' ? message : JSON.stringify(message))
  return readMessages(bytes, { bodyBytes: bytes.length, depth: 64, batch: 1 }) as Request & Notification
}

const chain = (who: string) => who.split('>').map((identity) => ({ identity }))

export function poolFixture(world: { clock?: Clock; limits?: Partial<McpLimits>; secrets?: Record<string, string> } = {}): PoolFixture {
  const folder = mkdtempSync(join(tmpdir(), 'chaperone-pool-'))
  chmodSync(folder, 0o755)
  const script = join(folder, 'server.mjs')
  writeFileSync(script, SERVER)
  chmodSync(script, 0o644)
  const dataDir = join(folder, 'data')
  mkdirSync(join(dataDir, 'keys'), { recursive: true, mode: 0o700 })
  writeFileSync(join(dataDir, 'keys', 'root'), 'the root key', { mode: 0o600 })
  writeFileSync(`${dataDir}.root-key`, 'readable by everybody: only a child that cannot see it will not read it', { mode: 0o644 })
  const records: Draft[] = []
  const logs: PoolFixture['logs'] = []
  const clock = world.clock ?? systemClock
  const pool = stdioPool({
    isolator: isolator({ dataDir }),
    audit: {
      async append(draft: Draft) {
        records.push(draft)
        return { id: 'rec', seq: records.length }
      },
    } as Parameters<typeof stdioPool>[0]['audit'],
    clock,
    limits: { ...MCP_LIMITS, termMs: 50, killMs: 500, ...world.limits },
    log: (what, facts) => logs.push({ what, facts }),
    values: async (env) =>
      Object.fromEntries(
        Object.entries(env).map(([name, value]) => [name, typeof value === 'string' ? value : (world.secrets?.[value.secret] ?? '')]),
      ),
  })
  let nextId = 1
  return {
    dataDir,
    pool,
    records,
    logs,
    of: (type) => records.filter((draft) => draft.type === type),
    letGo: () => writeFileSync(`${script}.go`, ''),
    session({ who = 'agt_a', spec = {}, mode = 'plain', era = 'legacy', asker = {}, server = 's' } = {}) {
      const heard: Json[] = []
      const ended: ChaperoneError[] = []
      const identity = chain(who)
      const upstream = pool.open({
        era,
        session: {
          id: `ses_${nextId++}`,
          principal: { identityId: identity.at(-1)!.identity, name: who, kind: 'agent', chain: identity },
        } as unknown as LiveSession,
        server: {
          resource: { kind: 'mcp', id: `res_${server}`, name: server, labels: {} },
          spec: mcpServerSpec.parse({ command: [process.execPath, script, mode], isolation: 'none', ...spec }),
        },
        asker: {
          answered: (_, text) => text,
          required: (_, text) => text,
          may: async () => () => {},
          asked: async (message) => JSON.stringify({ jsonrpc: '2.0', id: message.id, result: { answered: who } }),
          told(message) {
            heard.push(JSON.parse(message.text))
            return true
          },
          ...asker,
        },
        ended: (why) => ended.push(why),
      })
      const session: TestSession = {
        upstream,
        heard,
        ended,
        async request(method, params = {}, { id = nextId++, signal, answer = new TestAnswer() } = {}) {
          await upstream.request(permitWith(signal), read({ jsonrpc: '2.0', id, method, params }), answer, {})
          const message = answer.messages.findLast((one) => !('method' in one))
          if (message.id !== id) throw new Error(`answer of ${message.id} for ${id}`)
          if (message.error) throw message.error
          return message.result
        },
        notify: (method, params = {}) => upstream.notify(permitWith(), read({ jsonrpc: '2.0', method, params }), {}),
        async tool(name, args = {}, more = {}) {
          const result = await session.request('tools/call', { name, arguments: args }, more)
          return result.content === undefined ? result : JSON.parse(result.content[0].text)
        },
        async hello(capabilities = {}, protocolVersion = '2025-11-25') {
          const result = await session.request('initialize', { protocolVersion, capabilities, clientInfo: { name: 't', version: '1' } })
          await session.notify('notifications/initialized')
          return result
        },
        listen() {
          const answer = new TestAnswer()
          upstream.stream(permitWith(), answer, {}).catch(() => answer.end())
          return answer
        },
      }
      return session
    },
    async close() {
      await pool.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

export const alive = (pid: number) => {
  try {
    process.kill(pid, 0)
    // A zombie that its parent has not collected yet is gone.
    return process.platform !== 'linux' || !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}
