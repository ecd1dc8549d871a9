import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { sslRequest, writeStartup } from '../startup.ts'
import { type Finding, PROBE } from './finding.ts'

const VERSION_3 = 196_608
/** What an authentication request asks for (PostgreSQL documentation, chapter 54.7). */
const ASKS: Readonly<Record<number, string>> = {
  3: 'a password in clear text',
  5: 'a password (md5)',
  7: 'Kerberos',
  9: 'SSPI',
  10: 'a password (SCRAM)',
}

type Said =
  | { readonly kind: 'in' }
  | { readonly kind: 'asks'; readonly for: string }
  | { readonly kind: 'refused'; readonly message: string }
  | { readonly kind: 'away'; readonly message: string }

/**
 * Knocks at a database server as each of its users, without a client certificate, with TLS and without; a login that would
 * want more than a name is not tried any further.
 */
export async function tryPostgres(
  name: string,
  { address, database, users }: { readonly address: string; readonly database: string; readonly users: readonly string[] },
  timeoutMs: number = PROBE.timeoutMs,
): Promise<Finding> {
  const base = { what: `postgres/${name}`, where: address }
  const at = address.lastIndexOf(':')
  const [host, port] = [address.slice(0, at).replace(/^\[|\]$/g, ''), Number(address.slice(at + 1))]
  const asked = new Map<string, string[]>()
  let last: Said | undefined
  for (const user of users) {
    for (const tls of [true, false]) {
      const said = await knock({ host, port, user, database, tls, timeoutMs })
      last = said
      const how = tls ? 'with TLS' : 'without TLS'
      if (said.kind === 'in')
        return {
          ...base,
          state: 'open',
          says: `believes whoever calls himself ${user} at ${database} ${how}: no password, no certificate`,
          fix: `In pg_hba.conf, take that line (trust) out; the line that lets Chaperone alone in: hostssl ${database} ${user} all cert. See: chaperone db setup ${name}`,
        }
      if (said.kind === 'asks') asked.set(said.for, [...(asked.get(said.for) ?? []), `${user} ${how}`])
      if (said.kind === 'away') return { ...base, state: 'closed', says: `cannot be reached from here (${said.message})` }
    }
  }
  if (asked.size > 0) {
    const which = [...asked].map(([what, who]) => `${what} of ${who.join(', ')}`).join('; ')
    return {
      ...base,
      state: 'guarded',
      says: `answers from here, and takes ${which}`,
      fix: `In pg_hba.conf, let these users in by certificate alone: hostssl ${database} ${[...new Set(users)].join(',')} all cert. See: chaperone db setup ${name}`,
    }
  }
  return { ...base, state: 'closed', says: `takes nobody without a certificate: ${last?.kind === 'refused' ? last.message : 'refused'}` }
}

interface Knock {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly database: string
  readonly tls: boolean
  readonly timeoutMs: number
}

function knock({ host, port, user, database, tls, timeoutMs }: Knock): Promise<Said> {
  return new Promise((done) => {
    const plain = connect({ host, port })
    let wire: Socket = plain
    let connected = false
    const end = (said: Said) => {
      clearTimeout(timer)
      wire.destroy()
      plain.destroy()
      done(said)
    }
    const timer = setTimeout(() => end({ kind: 'away', message: connected ? 'no answer' : 'ETIMEDOUT' }), timeoutMs)
    const failed = (error: NodeJS.ErrnoException) =>
      // A server that wants a certificate may say so by ending TLS.
      end(connected ? { kind: 'refused', message: error.code ?? error.message } : { kind: 'away', message: error.code ?? error.message })
    const begin = () => {
      wire.write(
        writeStartup(
          VERSION_3,
          new Map([
            ['user', user],
            ['database', database],
          ]),
        ),
      )
      let bytes = Buffer.alloc(0)
      wire.on('data', (chunk: Buffer) => {
        bytes = Buffer.concat([bytes, chunk])
        const said = read(bytes)
        if (said) end(said)
        else if (bytes.length > PROBE.answer) end({ kind: 'refused', message: 'it does not speak PostgreSQL' })
      })
      wire.on('close', () => end({ kind: 'refused', message: 'it hung up' }))
    }
    plain.on('error', failed)
    plain.once('connect', () => {
      connected = true
      if (!tls) return begin()
      plain.write(sslRequest())
      plain.once('data', (first: Buffer) => {
        if (first[0] !== 0x53) return end({ kind: 'refused', message: 'it has no TLS' })
        // Nothing secret is sent: whose certificate it is does not matter here.
        const secure = connectTls({ socket: plain, rejectUnauthorized: false, ALPNProtocols: ['postgresql'] }, begin)
        wire = secure
        secure.on('error', failed)
      })
    })
  })
}

function read(bytes: Buffer): Said | undefined {
  if (bytes.length < 5) return undefined
  const type = bytes[0]
  const length = bytes.readInt32BE(1)
  if (length < 4 || length > PROBE.answer) return { kind: 'refused', message: 'it does not speak PostgreSQL' }
  if (bytes.length < 1 + length) return undefined
  if (type === 0x52) {
    const code = length >= 8 ? bytes.readInt32BE(5) : -1
    return code === 0 ? { kind: 'in' } : { kind: 'asks', for: ASKS[code] ?? `authentication ${code}` }
  }
  if (type !== 0x45) return { kind: 'refused', message: 'it does not speak PostgreSQL' }
  const fields = bytes
    .subarray(5, 1 + length)
    .toString('utf8')
    .split('\0')
  return { kind: 'refused', message: (fields.find((field) => field.startsWith('M')) ?? 'M').slice(1).slice(0, 200) }
}
