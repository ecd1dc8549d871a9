import type { Client } from '@modelcontextprotocol/client'
import type pg from 'pg'
import type { Credential, LockRow } from '../api/contract.ts'
import { type Held, issuerOf, type Keeper, keepCredential } from '../client/credential.ts'
import type { DatabaseDoor } from '../client/database.ts'
import { makeKeyPair } from '../client/key-pair.ts'
import { profileOf } from '../client/profile.ts'
import { parseDuration } from '../encoding/duration.ts'
import { attempt } from './agent.ts'
import { connectDatabase, databaseDoor, endOf } from './connections.ts'
import type { Person } from './person.ts'
import { codeOf } from './steps-database.ts'
import type { Teller } from './story.ts'
import type { World } from './world.ts'

/** What has not been cut by then is open; how soon it was cut is told. */
export const PATIENCE_MS = 4_000

/** A credential that nobody renews: what a thief has. */
export interface Stolen {
  readonly door: DatabaseDoor
  /** opened at once, and left open */
  readonly client: pg.Client
  /** when the open connection ended, ms since 1970 */
  readonly ended: Promise<number>
  /** when its end should come: that of the certificate, or sooner where it lives for longer than was asked for */
  readonly due: number
  /** how late a timer of this process was that was set for just then: a busy machine is late in everything */
  readonly lateAnyway: Promise<number>
}

/** dana issues `boris-ai` a certificate of the given life; the key is made here. A connection is opened with it at once. `wanted`: the life that it should have. */
export async function stealCredential(world: World, ttl: string, wanted = ttl): Promise<Stolen> {
  const pair = makeKeyPair()
  await world.dana.freshFactor()
  const issuedAt = Date.now()
  const credential = await world.dana.api.call<Credential>('POST', '/v1/issue', { name: 'boris-ai', csr: pair.csr, ttl, purpose: 'nightly export' })
  const profile = profileOf(world.dana.profile.address, pair.key, credential)
  const held: Held = { key: pair.key, certificate: credential.certificate, notAfter: credential.notAfter, profile }
  const keeper: Keeper = { current: () => held, onRenew: () => {}, signal: new AbortController().signal, close: async () => {} }
  const door = await databaseDoor(keeper, 'topsecret', 'topsecret', 'analyst_ro')
  const client = await connectDatabase(door)
  const ended = endOf(client, Date.now)
  // Not simply `notAfter`: a certificate that lives longer than was asked for is what the step must find, not wait for.
  const due = Math.min(credential.notAfter, issuedAt + parseDuration(wanted))
  const lateAnyway = new Promise<number>((done) => void setTimeout(() => done(Date.now() - due), due - Date.now()).unref())
  return { door, client, ended, due, lateAnyway }
}

export async function afterItsEnd(teller: Teller, stolen: Stolen, ttl: string): Promise<void> {
  teller.chapter(
    '6. A stolen credential',
    `At the start dana issued a certificate of ${ttl} to boris-ai; a thief copied it, key and all, and kept a connection open. Now we wait for its end.`,
  )
  await teller.step(`the connection that was open when the ${ttl} were over`, 'is cut at that second', async () => {
    const { due } = stolen
    const limit = new Promise<'open'>((done) => setTimeout(() => done('open'), Math.max(0, due - Date.now()) + PATIENCE_MS))
    const ended = await Promise.race([stolen.ended, limit])
    if (ended === 'open') return { observed: 'it is still open seconds later', ok: false }
    const late = ended - due
    const ok = late > -1_500 && late < 1_500 + Math.max(0, await stolen.lateAnyway)
    return { observed: `cut ${Math.abs(late)} ms ${late < 0 ? 'before' : 'after'} the end of the certificate`, ok }
  })
  await teller.step('the thief connects again', 'refused', async () => {
    const opened = await connectDatabase(stolen.door).then(
      async (client) => {
        await client.end()
        return 'it opened a connection'
      },
      (error: { code?: string; message: string }) => `refused: ${error.code ?? ''} ${error.message}`.trim(),
    )
    return { observed: opened, ok: opened.startsWith('refused') }
  })
  await stolen.client.end().catch(() => {})
  await stolen.door.close()
}

/** A connection of boris-ai that lives and renews: what a lock must cut. */
export async function liveDatabase(
  person: Person,
  agent: string,
  purpose: string,
  user = 'analyst_ro',
): Promise<{ readonly client: pg.Client; readonly door: DatabaseDoor; readonly keeper: Keeper; close(): Promise<void> }> {
  const issuer = issuerOf(person.profile, { client: agent, purpose })
  const keeper = await keepCredential(issuer, { skewMs: issuer.skewMs })
  const door = await databaseDoor(keeper, 'topsecret', 'topsecret', user)
  const client = await connectDatabase(door, user)
  return {
    client,
    door,
    keeper,
    async close() {
      await client.end().catch(() => {})
      await door.close()
      await keeper.close()
    },
  }
}

export async function lockedOut(
  teller: Teller,
  { dana }: World,
  live: { readonly client: pg.Client; readonly door: DatabaseDoor; readonly files: Client; readonly report: string },
  target: string,
): Promise<void> {
  teller.chapter('7. Stop', 'dana locks boris-ai. Nothing is restarted, nobody is asked to sign out.')
  let lock: LockRow | undefined
  await teller.step('live connections', 'are cut, on every protocol, before the lock is acknowledged', async () => {
    await live.client.query('SELECT 1')
    const ended = endOf(live.client, () => performance.now())
    await dana.freshFactor()
    const before = performance.now()
    lock = await dana.api.call<LockRow>('POST', '/v1/locks', { kind: 'identity', target, reason: 'it obeys strangers' })
    const acknowledged = performance.now() - before
    const cut = await Promise.race([ended, new Promise<undefined>((done) => setTimeout(() => done(undefined), PATIENCE_MS))])
    const call = await attempt(live.files, 'read_text_file', { path: live.report })
    const stopped = cut !== undefined && !call.text.includes('Quarterly report')
    return {
      observed:
        cut === undefined
          ? 'the database connection is still open'
          : `acknowledged after ${acknowledged.toFixed(0)} ms, the database connection cut after ${(cut - before).toFixed(0)} ms; the next tool call: ${call.text.split('\n')[0]}`,
      ok: stopped,
    }
  })
  await teller.step('new connections', 'are refused while the lock stands', async () => {
    const opened = await codeOf(connectDatabase(live.door).then((client) => client.end()))
    return { observed: opened === 'ran' ? 'a new connection was accepted' : `refused: ${opened}`, ok: opened !== 'ran' }
  })
  if (lock) await dana.api.call('DELETE', `/v1/locks/${lock.id}`)
}
