import type { Credential } from '../api/contract.ts'
import type { DelegationRow, ExchangeBody } from '../api/delegations-contract.ts'
import { openApi } from '../client/api.ts'
import type { Keeper } from '../client/credential.ts'
import { makeKeyPair } from '../client/key-pair.ts'
import { type Profile, profileOf } from '../client/profile.ts'
import { connectDatabase, databaseDoor, endOf } from './connections.ts'
import { codeOf } from './steps-database.ts'
import { PATIENCE_MS } from './steps-time.ts'
import type { Teller } from './story.ts'
import type { World } from './world.ts'

/** An agent that boris-ai brings into being for one piece of work. */
export const HELPER = 'boris/summary'

/** boris-ai lets a helper read for it: three links, each of which can only narrow, and which boris ends with one word. */
export async function handedOn(teller: Teller, world: World, keeper: Keeper): Promise<void> {
  teller.chapter(
    '5. An agent of an agent',
    `boris-ai hands a part of what it may do on to a helper, ${HELPER}: reading, from one database, for two minutes.`,
  )
  const { boris } = world
  let helper: Profile | undefined
  let row: DelegationRow | undefined

  await teller.step('boris-ai hands it on', 'a credential of three links, and boris sees in words what was handed on', async () => {
    const { key, csr } = makeKeyPair()
    const ask: ExchangeBody = { to: HELPER, csr, limits: { effects: ['read'], resources: ['postgres/topsecret'] }, for: '2m', purpose: 'a summary' }
    const credential = await withApi(keeper, (api) => api.call<Credential>('POST', '/v1/exchange', ask))
    helper = profileOf(boris.profile.address, key, credential)
    const { delegations } = await boris.api.call<{ delegations: DelegationRow[] }>('GET', '/v1/delegations?of=boris-ai')
    row = delegations.find(({ to }) => to === HELPER)
    const left = Math.round((credential.notAfter - Date.now()) / 1000)
    return {
      observed: `${row?.from} > ${row?.to}, for ${left} s more`,
      ok: row?.from === 'boris-ai' && left <= 120,
      lines: row?.leaves ?? [],
    }
  })

  const enter = async (user: string) => {
    const door = helper && (await databaseDoor(fixed(helper), 'topsecret', 'topsecret', user))
    return { door, client: door && (await connectDatabase(door, user).catch(() => undefined)) }
  }
  const reading = await enter('analyst_ro')
  const writing = await enter('analyst_rw')
  try {
    await teller.step(`${HELPER} reads`, 'rows come back', async () => {
      const result = await reading.client?.query('SELECT count(*)::int AS count FROM customers').catch((error: Error) => error.message)
      const count = typeof result === 'object' ? (result.rows[0] as { count: number }).count : undefined
      return { observed: count === undefined ? String(result) : `${count} rows`, ok: count === 50 }
    })

    await teller.step(`${HELPER} sends an UPDATE`, 'refused at once: boris-ai may ask for it, and did not hand that on', async () => {
      const end = writing.client ? await codeOf(writing.client.query("UPDATE customers SET name = 'mine' WHERE id = 2")) : 'no connection'
      const name = String((await world.truth('topsecret', 'SELECT name FROM customers WHERE id = 2'))[0]?.name)
      return { observed: `${end}; in the table: ${name}`, ok: end === '42501' && name === 'Customer 2' }
    })

    await teller.step('boris takes it back', 'the helper’s connection is cut, and it cannot come again', async () => {
      const { client, door } = reading
      if (!client || !door || !row) return { observed: 'there is nothing to take back', ok: false }
      const began = performance.now()
      const ended = endOf(client, () => performance.now())
      await boris.freshFactor()
      await boris.api.call('DELETE', `/v1/delegations/${row.id}`)
      const cut = await Promise.race([ended, new Promise<undefined>((done) => setTimeout(() => done(undefined), PATIENCE_MS))])
      const again = await codeOf(connectDatabase(door).then((other) => other.end()))
      return {
        observed: cut === undefined ? 'the connection is still open' : `cut after ${(cut - began).toFixed(0)} ms; again: ${again}`,
        ok: cut !== undefined && again !== 'ran',
      }
    })
  } finally {
    for (const { client, door } of [reading, writing]) {
      await client?.end().catch(() => {})
      await door?.close()
    }
  }
}

/** Its credential is not renewed: it has two minutes. */
const fixed = (profile: Profile): Keeper => ({
  current: () => ({ key: profile.key, certificate: profile.certificate, notAfter: profile.notAfter, profile }),
  onRenew: () => {},
  signal: new AbortController().signal,
  close: async () => {},
})

async function withApi<T>(keeper: Keeper, work: (api: ReturnType<typeof openApi>) => Promise<T>): Promise<T> {
  const { profile } = keeper.current()
  const api = openApi({ address: profile.address, authorities: profile.bundles.server, identity: profile })
  try {
    return await work(api)
  } finally {
    api.close()
  }
}
