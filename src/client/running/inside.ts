import type { IncomingMessage } from 'node:http'
import { request } from 'node:http'
import { ChaperoneError } from '../../errors.ts'
import { type Api, openApi } from '../api.ts'
import type { Keeper } from '../credential.ts'
import { type DataPlane, NotSent } from '../data-plane.ts'
import { unreachable } from '../first-contact.ts'
import { lostAnswer } from '../mcp-messages.ts'
import type { Profile } from '../profile.ts'
import type { RunAbout } from './door.ts'

/** What commands do that are typed, or started by a client, inside of a run: they go through its socket, and hold no credential. */

export const apiInside = (socket: string): Api => openApi({ address: 'run.invalid:1', authorities: '', socket })

/** Who one is inside: everything of a profile but what opens something. */
export async function profileInside(api: Api): Promise<Profile> {
  const { id, name, kind, session, address, trustDomain, until } = await api.call<RunAbout>('GET', '/run')
  return {
    v: 1,
    address,
    trustDomain,
    identity: { id, name, kind },
    session,
    key: '',
    certificate: '',
    notAfter: until,
    sessionUntil: until,
    bundles: { trustDomain, identity: '', server: '' },
    listeners: { data: '', web: '', postgres: '' },
  }
}

/** Nothing to renew: the runner does. */
export function keeperInside(): Keeper {
  return {
    current() {
      throw new ChaperoneError('usage', 'Inside of a run there is no credential.', { fix: 'Use the sockets that the run has opened.' })
    },
    onRenew: () => {},
    signal: new AbortController().signal,
    close: async () => {},
  }
}

/** MCP over the socket of the run. */
export function planeInside(socket: string): DataPlane {
  return {
    send: (ask) =>
      new Promise<IncomingMessage>((resolve, reject) => {
        let connected = false
        const outgoing = request({
          socketPath: socket,
          method: ask.method,
          path: ask.path,
          headers: ask.headers as Record<string, string>,
          ...(ask.signal ? { signal: ask.signal } : {}),
        })
        outgoing.once('socket', (one) => one.once('connect', () => (connected = true)))
        outgoing.once('response', resolve)
        outgoing.on('error', (error) => {
          if (ask.signal?.aborted)
            return reject(ask.signal.reason instanceof ChaperoneError ? ask.signal.reason : new ChaperoneError('session_ended', 'Cancelled.'))
          reject(connected ? lostAnswer() : new NotSent(unreachable('the socket of this run', error)))
        })
        if (ask.body === undefined || Buffer.isBuffer(ask.body)) outgoing.end(ask.body)
        else ask.body.pipe(outgoing)
      }),
    close: () => {},
  }
}
