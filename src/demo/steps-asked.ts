import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Client } from '@modelcontextprotocol/client'
import type pg from 'pg'
import type { RequestDetail, RequestRow } from '../api/requests-contract.ts'
import { openApi } from '../client/api.ts'
import type { Keeper } from '../client/credential.ts'
import { toChaperoneError } from '../errors.ts'
import { attempt } from './agent.ts'
import type { Person } from './person.ts'
import { codeOf } from './steps-database.ts'
import type { Teller } from './story.ts'
import type { World } from './world.ts'

/** Each run of it shows: two exclamation marks would be two runs. */
const STATEMENT = "UPDATE customers SET name = name || '!' WHERE id = 1"
/** A person decides in seconds; what nobody asks about within this was never asked. */
const PATIENCE_MS = 10_000

export interface Asking {
  readonly client: pg.Client
  /** the credential of boris-ai */
  readonly keeper: Keeper
  readonly files: Client
}

/** One statement that somebody else must allow, and one call that the person behind the agent confirms. */
export async function aHumanIsAsked(teller: Teller, world: World, { client, keeper, files }: Asking): Promise<void> {
  teller.chapter('4. A human says yes', 'For updates the role of boris-ai says `ask`: a holder of the role dba must say yes to the exact statement.')
  const { dana, boris } = world
  const nameOfFirst = async () => String((await world.truth('topsecret', 'SELECT name FROM customers WHERE id = 1'))[0]?.name)
  let request: RequestDetail | undefined
  let running: Promise<string> = Promise.resolve('never sent')

  await teller.step('boris-ai sends one UPDATE', 'it waits and nothing has happened; it is told who can say yes, and where', async () => {
    const told = noticeOf(client)
    running = codeOf(client.query(STATEMENT))
    const notice = await Promise.race([told, running.then((end) => `no question was asked: ${end}`)])
    const name = await nameOfFirst()
    return { observed: `in the table: ${name}; it is told: ${notice.split('\n')[0]}`, ok: name === 'Customer 1' && notice.includes('/requests/') }
  })

  await teller.step('dana looks at what waits for her', 'the statement to the letter, who wants it and for whom', async () => {
    request = await waiting(dana, 'call')
    const exact = request?.shown.some(({ text }) => text === STATEMENT) === true
    const who = request?.chain.join(' > ')
    return {
      observed: request ? `${request.summary}, by ${who}, for "${request.purpose}"` : 'nothing waits for her',
      ok: exact && who === 'boris > boris-ai',
      lines: (request?.shown ?? []).flatMap(({ title, text }) => `${title}: ${text}`.split('\n')).slice(0, 8),
    }
  })

  await teller.step('boris-ai and boris try to approve it themselves', 'refused: nobody approves what is asked for himself', async () => {
    const { profile } = keeper.current()
    const agent = openApi({ address: profile.address, authorities: profile.bundles.server, identity: profile })
    await boris.freshFactor()
    const [agents, his] = [await decide(agent, request, 'approve'), await decide(boris.api, request, 'approve')]
    agent.close()
    const name = await nameOfFirst()
    return { observed: `boris-ai: ${agents}, boris: ${his}; in the table: ${name}`, ok: agents !== 'done' && his !== 'done' && name === 'Customer 1' }
  })

  await teller.step('dana approves it', 'the statement that waits runs, once', async () => {
    await dana.freshFactor()
    const decided = await decide(dana.api, request, 'approve')
    const end = await running
    const name = await nameOfFirst()
    return { observed: `dana’s yes: ${decided}; the statement ${end}; in the table: ${name}`, ok: end === 'ran' && name === 'Customer 1!' }
  })

  await teller.step('boris-ai sends the same again', 'a new question; dana says no, and it is refused', async () => {
    const again = codeOf(client.query(STATEMENT))
    const second = await waiting(dana, 'call')
    const decided = await decide(dana.api, second, 'deny')
    const end = await again
    const name = await nameOfFirst()
    return {
      observed: `dana’s no: ${decided}; the statement: ${end}; in the table: ${name}`,
      ok: second?.id !== request?.id && end === '42501' && name === 'Customer 1!',
    }
  })

  const folder = join(world.outbox, '2026')
  await teller.step('boris-ai makes a folder, which boris must confirm', 'it is made when boris, with his second factor, has said so', async () => {
    const call = attempt(files, 'create_directory', { path: folder })
    const asked = await waiting(boris, 'call')
    const before = existsSync(folder)
    await boris.freshFactor('anew')
    const decided = await decide(boris.api, asked, 'approve')
    const { refused } = await call
    return {
      observed: `${before ? 'it was there before anybody was asked' : 'it waited'}; boris: ${decided}; ${existsSync(folder) ? 'the folder is there' : 'there is no folder'}`,
      ok: !before && asked?.standing.confirms === true && !refused && existsSync(folder),
    }
  })
}

/** The next notice of the server, or of Chaperone in its place. */
const noticeOf = (client: pg.Client): Promise<string> => new Promise((done) => client.once('notice', ({ message }) => done(message ?? '')))

/** The newest question that the person could answer, as she is shown it; undefined when none comes in time. */
async function waiting(person: Person, kind: RequestRow['kind']): Promise<RequestDetail | undefined> {
  const until = performance.now() + PATIENCE_MS
  do {
    const { requests } = await person.api.call<{ requests: readonly RequestRow[] }>('GET', `/v1/requests?kind=${kind}&state=pending&mine=to_decide`)
    if (requests[0]) return person.api.call<RequestDetail>('GET', `/v1/requests/${requests[0].id}`)
    await new Promise((again) => setTimeout(again, 50))
  } while (performance.now() < until)
  return undefined
}

/** One answer: `done`, or why not. */
async function decide(api: Person['api'], request: RequestDetail | undefined, verdict: 'approve' | 'deny'): Promise<string> {
  if (!request) return 'there was no question'
  try {
    await api.call('POST', `/v1/requests/${request.id}/decide`, {
      verdict,
      seen: request.seen,
      ...(verdict === 'deny' ? { reason: 'once was enough' } : {}),
    })
    return 'done'
  } catch (error) {
    return `refused (${toChaperoneError(error).code})`
  }
}
