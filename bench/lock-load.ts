/** The clients of W6: as many running calls, streams and statements as were ordered, each trying again when it is cut. */
import { Agent, request } from 'node:https'
import pg from 'pg'
import { asked } from './contest.ts'
import type { Shown } from './lock-node.ts'
import { micros } from './micros.ts'

export interface LockLoadOrder {
  readonly ca: string
  /** each client is with one of them, in turn */
  readonly nodes: readonly { readonly data: string; readonly postgres: string }[]
  readonly sessions: readonly Shown[]
  readonly calls: number
  readonly streams: number
  readonly statements: number
}

export interface LockLoadSaid {
  /** at this moment */
  readonly running: { readonly calls: number; readonly streams: number; readonly statements: number }
  /** why the first ones failed that were not to */
  readonly failures: readonly string[]
}

/** When what was running at the lock had ended, in microseconds of `micros`. */
export interface LockLoadCuts {
  readonly calls: readonly number[]
  readonly streams: readonly number[]
  readonly statements: readonly number[]
  /** ms of CPU of this process from `since` until the last of them */
  readonly cpuMs: number
  /** what a statement was told at its end */
  readonly told: Readonly<Record<string, number>>
}

type Kind = 'calls' | 'streams' | 'statements'

/** A cut client waits before it tries again, so that a thousand handshakes do not hide what is measured. */
const RETRY_MS = [300, 3_000] as const

let order: LockLoadOrder
let over = false
const running: Record<Kind, number> = { calls: 0, streams: 0, statements: 0 }
/** when each client that was under way was cut */
const cuts: Record<Kind, Map<number, number>> = { calls: new Map(), streams: new Map(), statements: new Map() }
const told = new Map<string, number>()
/** when the cuts are counted from, and what was used until the newest */
let cpuAt = process.cpuUsage()
let cpuMs = 0
const failures: string[] = []

const pause = () => new Promise((done) => setTimeout(done, RETRY_MS[0] + Math.random() * (RETRY_MS[1] - RETRY_MS[0])))
const hostOf = (address: string) => ({ host: '127.0.0.1', port: Number(address.split(':').at(-1)) })

/** `ran`: it was under way, and not a new try that was refused: that one ends whenever it comes, and no lock has cut it. */
function ended(kind: Kind, of: number, why: string, ran: boolean): void {
  if (ran && !cuts[kind].has(of)) {
    cuts[kind].set(of, micros())
    const { user, system } = process.cpuUsage(cpuAt)
    cpuMs = (user + system) / 1000
  }
  if (failures.length >= 20) failures.shift()
  failures.push(`${kind}: ${why}`)
}

async function caller(kind: 'calls' | 'streams', of: number): Promise<void> {
  const session = order.sessions[of % order.sessions.length]!
  const { data } = order.nodes[of % order.nodes.length]!
  const tool = kind === 'calls' ? 'wait' : 'stream'
  const { headers, body } = asked('modern', 'tools/call', {
    name: tool,
    arguments: {},
    ...(kind === 'streams' ? { _meta: { progressToken: `p${of}` } } : {}),
  })
  let agent = new Agent({ keepAlive: true, maxSockets: 1, servername: 'localhost', ca: order.ca, ...session })
  let ran = false
  while (!over) {
    const why = await new Promise<string | undefined>((done) => {
      const out = request({ agent, ...hostOf(data), path: '/mcp/bench', method: 'POST', headers }, (answer) => {
        let text = ''
        if (answer.statusCode === 200 && kind === 'streams') begins()
        answer.setEncoding('utf8').on('data', (chunk: string) => {
          text = (text + chunk).slice(-2000)
        })
        const end = (error?: Error) => {
          done(error ? error.message : kind === 'calls' && text.includes('done') ? undefined : `${answer.statusCode} ${text.slice(-300)}`)
        }
        answer.once('end', () => end())
        answer.once('error', end)
      })
      out.once('error', (error) => done(error.message))
      out.end(body)
    })
    if (why === undefined) {
      begins()
      continue
    }
    ended(kind, of, why, ran)
    if (ran) running[kind]--
    ran = false
    agent.destroy()
    if (over) return
    await pause()
    agent = new Agent({ keepAlive: true, maxSockets: 1, servername: 'localhost', ca: order.ca, ...session })
  }
  agent.destroy()

  /** From its first answer on it is under way: a call that is answered is asked again at once. */
  function begins(): void {
    if (ran) return
    ran = true
    running[kind]++
  }
}

async function asker(of: number): Promise<void> {
  const { cert, key } = order.sessions[of % order.sessions.length]!
  const { postgres } = order.nodes[of % order.nodes.length]!
  while (!over) {
    const client = new pg.Client({
      ...hostOf(postgres),
      user: 'bench',
      database: 'bench/bench',
      ssl: { ca: order.ca, cert, key, servername: 'localhost' },
    })
    let counted = false
    client.on('error', () => {})
    try {
      await client.connect()
      counted = true
      running.statements++
      while (!over) await client.query('SELECT nap()')
    } catch (error) {
      const { code, message } = error as { code?: string; message: string }
      ended('statements', of, message, counted)
      if (counted) told.set(code ?? message, (told.get(code ?? message) ?? 0) + 1)
    }
    if (counted) running.statements--
    client.end().catch(() => {})
    if (!over) await pause()
  }
}

process.on('message', (message: LockLoadOrder | { readonly say: 'running' | 'cuts' } | { readonly end: true }) => {
  if ('ca' in message) {
    order = message
    // One after the other: a thousand handshakes at once would keep each other waiting until they are refused.
    const kinds = (['streams', 'statements', 'calls'] as const).flatMap((kind) => Array.from({ length: order[kind] }, (_, i) => [kind, i] as const))
    void (async () => {
      for (const [kind, i] of kinds) {
        if (kind === 'statements') void asker(i)
        else void caller(kind, i)
        if (i % 4 === 0) await new Promise((done) => setTimeout(done, 20))
      }
    })()
    process.send?.({ started: true })
  } else if ('say' in message && message.say === 'running') {
    process.send?.({ running, failures } satisfies LockLoadSaid)
  } else if ('say' in message) {
    const [calls, streams, statements] = [cuts.calls, cuts.streams, cuts.statements].map((one) => [...one.values()])
    process.send?.({ calls, streams, statements, cpuMs, told: Object.fromEntries(told) })
    cpuAt = process.cpuUsage()
    cpuMs = 0
    for (const one of [...Object.values(cuts), told]) one.clear()
  } else {
    over = true
    setTimeout(() => process.exit(0), 1_000)
  }
})
process.send?.({ ready: true })
process.on('disconnect', () => process.exit())
