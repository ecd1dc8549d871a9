import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fakeAuthority } from '../../test/fakes/authority.ts'
import type { AccessRequest, CallWish, RequestFacts, Wished } from '../access/requests/types.ts'
import type { Draft } from '../audit/record.ts'
import { notifierSpec } from '../catalog/notifier.ts'
import { manualClock } from '../clock.ts'
import { createIdentity } from '../identity/directory.ts'
import { openStore, type StoreLocation } from '../store/open.ts'
import { type NotificationParts, openNotifications } from './notifications.ts'

export const START = Date.UTC(2026, 10, 22, 12)
export const newSecret = () => `whsec_${randomBytes(32).toString('base64')}`

const HELD = 'hunter2-hunter2'

/** For tests of this room: a real store, people, a sealed secret each, and notifiers as the test wants them. */
export async function openHouse(t: TestContext, options: { readonly at?: StoreLocation; readonly parts?: Partial<NotificationParts> } = {}) {
  const clock = manualClock(START)
  const dataDir = await mkdtemp(join(tmpdir(), 'notify-'))
  const store = await openStore(options.at ?? { dataDir }, { clock })
  const records: Draft[] = []
  const results: string[] = []
  const faults: unknown[] = []
  const secrets = new Map([['hook', newSecret()]])
  const documents: { name: string; spec: unknown }[] = []
  const make = () =>
    openNotifications({
      store,
      clock,
      audit: {
        async append(draft) {
          records.push(draft)
          return { id: `rec_${records.length}`, seq: records.length }
        },
      },
      documents: () => documents,
      async reveal(name) {
        const value = secrets.get(name)
        if (value === undefined) throw new Error('no such secret')
        return value
      },
      voter: () => undefined,
      mayApply: () => false,
      failed: (error) => faults.push(error),
      counted: (result) => results.push(result),
      link: (id) => `https://chaperone.test:7443/requests/${id}`,
      mask: (text) => text.replaceAll(HELD, '[masked:secret]'),
      random: () => 1,
      ...options.parts,
    })
  const opened = new Set([make()])
  t.after(async () => {
    for (const one of opened) {
      const closing = one.close()
      clock.advance(2_000)
      await closing
    }
    await store.close()
    await rm(dataDir, { recursive: true })
  })
  const people = await store.write(async (trx) => {
    const user = (name: string, traits = {}) => createIdentity(trx, { kind: 'user', name, roles: [], traits, source: 'document', now: START })
    const [boris, dana, erin] = [
      await user('boris', { email: 'boris@example.test' }),
      await user('dana', { email: 'dana@example.test' }),
      await user('erin'),
    ]
    const claude = await createIdentity(trx, {
      kind: 'agent',
      name: 'boris/claude',
      ownerId: boris.id,
      roles: 'inherit',
      source: 'client',
      now: START,
    })
    return { boris, dana, erin, claude }
  })
  const { boris, claude } = people

  const requestOf = (more: Partial<RequestFacts> | (Partial<RequestFacts> & Wished) = {}, call: Partial<CallWish> = {}): AccessRequest => ({
    id: 'req_01kaxxxxxxxxxxxxxxxxxxxxxx',
    kind: 'call',
    identityId: claude.id,
    chain: [{ identity: boris.id }, { identity: claude.id, delegation: 'dlg_1' }],
    body: {
      kind: 'postgres',
      operation: 'update',
      effects: ['write'],
      summary: 'UPDATE public.customers',
      resource: { id: 'res_orders', name: 'orders' },
      message: 'Somebody must look at it.',
      rules: [],
      shown: [{ title: 'Statement', text: `UPDATE customers SET note = 'x' -- ${HELD}`, form: 'sql' }],
      ...call,
    } satisfies CallWish,
    reason: `to mend it, ${HELD}`,
    state: 'pending',
    needs: [{ approvers: { role: 'dba' }, link: claude.id }],
    votes: [],
    createdAt: START,
    updatedAt: START,
    expiresAt: START + 3_600_000,
    below: false,
    ...(more as object),
  })

  const house = {
    HELD,
    clock,
    store,
    records,
    results,
    faults,
    secrets,
    people,
    requestOf,
    notifications: [...opened][0]!,
    /** Another node over the same store. */
    another() {
      const one = make()
      opened.add(one)
      return one
    },
    /** Applies a notifier, read by the schema like every document. */
    apply(name: string, spec: unknown) {
      documents.push({ name, spec: notifierSpec.parse(spec) })
    },
    documents,
    tell: (request: AccessRequest, type: 'made' | 'approved' | 'denied' | 'broke_glass' | 'withdrawn' = 'made') =>
      store.write((trx) => house.notifications.announce(trx, { type, request })),
    rows: () => store.db.selectFrom('deliveries').selectAll().orderBy('id').execute(),
    /** Moves the clock, and waits until everything that this woke is done: looked at once more at its very end. */
    async pass(ms: number) {
      const settled = async () => {
        for (const one of opened) await one.settled()
      }
      if (ms > 1_000) {
        clock.advance(ms - 1_000)
        await settled()
      }
      clock.advance(Math.min(ms, 1_000))
      await settled()
    },
  }
  return house
}

export interface Received {
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

/** A receiver on loopback, with TLS. `answer` is the test's; `next` is the next message that came, whole. */
export async function receiver(
  t: TestContext,
  answer: (response: ServerResponse, got: Received, socket: Socket) => void = (response) => response.end(),
) {
  const authority = await fakeAuthority()
  const { key, chain } = await authority.issue(['localhost', '127.0.0.1', 'hooks.test'])
  const seen: Received[] = []
  const waiting: ((got: Received) => void)[] = []
  const server = createServer({ key, cert: chain }, (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const got = { path: request.url ?? '', headers: request.headers, body: Buffer.concat(chunks).toString() }
      seen.push(got)
      behave.answer(response, got, request.socket)
      for (const tell of waiting.splice(0)) tell(got)
    })
  })
  const behave = { answer }
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  t.after(() => {
    server.closeAllConnections()
    return new Promise((closed) => server.close(closed))
  })
  const { port } = server.address() as AddressInfo
  return Object.assign(behave, {
    ca: authority.certificate,
    port,
    url: `https://localhost:${port}/hook`,
    seen,
    next: () => new Promise<Received>((tell) => waiting.push(tell)),
  })
}
