import { Refusal } from '../../src/access/types.ts'
import type { Invitation } from '../../src/api/contract.ts'
import { describeStatement } from '../../src/gateways/postgres/explain.ts'
import type { LiveSession } from '../../src/identity/types.ts'
import { fromBase32, stepAt, totpCode } from '../../src/signin/totp.ts'
import { codeOf, wrongCodeOf } from '../parts/factor.ts'
import { type House, house, type Member } from '../parts/house.ts'

export const DOCUMENTS = `
kind: postgres
name: shop
labels: { env: prod }
spec: { address: "127.0.0.1:1", databases: [shop] }
---
kind: role
name: analyst
spec:
  allow: [ { postgres: shop, databases: [shop], as: analyst, can: read } ]
  ask: [ { postgres: shop, databases: [shop], as: analyst, statements: [update, delete] } ]
  request: [ { role: writer, max: 2h, reason: required }, { role: fixer, max: 30m, break_glass: true } ]
---
kind: role
name: writer
spec: { allow: [ { postgres: shop, databases: [shop], as: analyst, statements: any } ] }
---
kind: role
name: fixer
spec: { allow: [ { postgres: shop, databases: [shop], as: analyst, statements: any } ] }
---
kind: user
name: boris
spec: { roles: [analyst] }
---
kind: user
name: erik
spec: {}
---
kind: user
name: olga
spec: { roles: [admin] }
---
kind: agent
name: report-bot
spec: { owner: boris, roles: [analyst] }
`

export interface World extends House {
  /** `https://localhost:port` */
  readonly web: string
  readonly boris: Member
  readonly bot: LiveSession
  /** The code of a person's authenticator now; as if none had been used before. */
  code(name: string): Promise<string>
  /** One that it does not show. */
  wrongCode(name: string): Promise<string>
  invite(name: string): Promise<string>
  /** Asks for the statement as the bot does, and returns the id of the request that waits. */
  park(sql: string, more?: { readonly session?: LiveSession; readonly title?: string }): Promise<string>
  /** The same, once more: `ran`, or the request that it waits for. */
  run(sql: string): Promise<string>
}

interface Test {
  after(work: () => Promise<void>): void
}

/** A whole server, people, an agent that asks, and the statements that it asks for. */
export async function world(t: Test, options: Parameters<typeof house>[1] = {}): Promise<World> {
  const home = await house(t, options)
  await home.apply(DOCUMENTS)
  const { parts } = home.server
  const boris = await home.enrol('boris')
  // Not by dana: she decides about what it asks for.
  const joined = await home.join('report-bot', undefined, await home.enrol('olga'))
  const bot = await sessionOf(home, joined)
  const code = (name: string) => codeOf(parts, name)
  return {
    ...home,
    web: `https://${parts.places.web}`,
    boris,
    bot,
    code,
    wrongCode: (name) => wrongCodeOf(parts, name),
    async invite(name) {
      const { invitation } = await home.dana.api.call<Invitation>('POST', '/v1/invitations', { name })
      return /\/([A-Za-z0-9_-]{43})\?/.exec(invitation)![1]!
    },
    run: attempt,
    async park(sql, more) {
      const id = await attempt(sql, more)
      if (id === 'ran') throw new Error('It was allowed at once.')
      return id
    },
  }

  async function attempt(sql: string, { session = bot, title = 'Statement' }: { readonly session?: LiveSession; readonly title?: string } = {}) {
    const { resource } = parts.resources.find('postgres', 'shop')!
    const place = { resource, database: 'shop', user: 'analyst' }
    const [action] = await describeStatement({ ...place, sql }, { pinnedReadOnly: false, reviewed: [] })
    const call = () => ({ bound: JSON.stringify({ sql }), shown: [{ title, text: sql, form: 'sql' as const }] })
    try {
      parts.guard.settle(await parts.guard.admit(session, action!, { asking: { call } }), { status: 'ok' })
      return 'ran'
    } catch (error) {
      if (error instanceof Refusal && error.parked) return error.parked.request
      throw error
    }
  }
}

/** The live session behind a member's certificate. */
async function sessionOf({ server }: House, { api }: Member): Promise<LiveSession> {
  const { session } = await api.call<{ session: { id: string } }>('GET', '/v1/whoami')
  return server.parts.sessions.list().find((one) => one.id === session.id)!
}

export const secretOf = (text: string) => fromBase32(text)!
export const codeNow = (secret: Uint8Array) => totpCode(secret, stepAt(Date.now()))
