import type { RequestNotice, RequestRow } from '../api/requests-contract.ts'
import type { Api } from '../client/api.ts'
import { ChaperoneError } from '../errors.ts'
import { keepFor, profileFor, runSocket, type ServerFlags, withApi } from './connection.ts'
import { say } from './output.ts'
import { streamAgain } from './stream-again.ts'
import { stoppable } from './terminal.ts'

/** Waits at the stream, which may break off: then it begins anew, with how it stands by then. */
export const decisionOf = (id: string, flags: ServerFlags): Promise<RequestRow> => stoppable((stop) => awaited(id, flags, stop))

async function awaited(id: string, flags: ServerFlags, stop: AbortSignal): Promise<RequestRow> {
  // An agent's credential lives for minutes; a question may wait for a day.
  // Inside of a run the runner keeps it.
  const keeper =
    runSocket(flags) !== undefined || (await profileFor(flags)).identity.kind === 'user' ? undefined : await keepFor(flags, 'requests', say)
  say(`waiting for the decision; the question stays when you end this`)
  try {
    const open = <T>(work: (api: Api) => Promise<T>) => (keeper ? withHeld(keeper.current(), work) : withApi(flags, work))
    const row = await streamAgain(stop, () => untilDecided(open, id, stop))
    if (row) return row
    throw new ChaperoneError('approval_required', 'Nobody has decided yet.', {
      fix: `The question stays, and its answer will: chaperone requests show ${id}`,
    })
  } finally {
    await keeper?.close()
  }
}

async function withHeld<T>(
  held: {
    readonly key: string
    readonly certificate: string
    readonly profile: { readonly address: string; readonly bundles: { readonly server: string } }
  },
  work: (api: Api) => Promise<T>,
): Promise<T> {
  const { openApi } = await import('../client/api.ts')
  const api = openApi({ address: held.profile.address, authorities: held.profile.bundles.server, identity: held })
  try {
    return await work(api)
  } finally {
    api.close()
  }
}

/**
 * Undefined when the stream ended before. The stream outlives the certificate that it was opened with, so each look goes with the one
 * of now: an agent that has waited for longer than its three minutes is told as well.
 */
export async function untilDecided(
  open: <T>(work: (api: Pick<Api, 'call' | 'events'>) => Promise<T>) => Promise<T>,
  id: string,
  stop: AbortSignal,
): Promise<RequestRow | undefined> {
  return open(async (api) => {
    for await (const notice of api.events<RequestNotice>('/v1/requests/events', stop)) {
      if (notice.type !== 'snapshot' && notice.request?.id !== id) continue
      const row = await open((now) => now.call<RequestRow>('GET', `/v1/requests/${id}`))
      if (row.state !== 'pending') return row
    }
    return undefined
  })
}

/** Why there is no yes. */
export function notGranted(row: RequestRow): ChaperoneError {
  const no = row.votes.find(({ verdict }) => verdict === 'deny')
  if (row.state === 'denied')
    return new ChaperoneError('approval_denied', `${no?.by ?? 'A rule'} said no${no?.reason === undefined ? '' : `: ${no.reason}`}.`, {
      fix: `See: chaperone requests show ${row.id}`,
    })
  return new ChaperoneError('conflict', `The request is ${row.state}.`, { fix: 'Ask again if you still need it.' })
}
