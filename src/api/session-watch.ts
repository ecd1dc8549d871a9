import type { Permit } from '../access/types.ts'
import type { Envelope, RecordType } from '../audit/record.ts'
import type { LiveSession } from '../identity/types.ts'
import type { SessionNotice } from './contract.ts'
import type { ApiParts } from './parts.ts'
import type { Streamed } from './route.ts'
import { makeStreams } from './stream.ts'

/** What is told of sessions. What is done in them is the record's to tell: `audit tail`. */
const TOLD: ReadonlySet<RecordType> = new Set([
  'session.started',
  'session.ended',
  'connection.opened',
  'connection.closed',
  'credential.copied',
  'lock.made',
  'lock.lifted',
])

export interface SessionWatch {
  /** What happens to sessions on this node from now on; without a permit, to one's own and those of one's agents. `of`: id of one identity. */
  open(session: LiveSession, permit: Permit | undefined, of: string | undefined): Streamed
  close(): void
}

export function makeSessionWatch({ audit, state, clock }: Pick<ApiParts, 'audit' | 'state' | 'clock'>): SessionWatch {
  const streams = makeStreams(clock, 'Too many are watching sessions already.')

  const isMine = ({ principal }: LiveSession, { actor }: Envelope): boolean => {
    if (actor === undefined) return false
    if (actor.id === principal.identityId) return true
    return principal.kind === 'user' && state.current().identity(actor.id)?.owner_id === principal.identityId
  }

  return {
    open(session, permit, of) {
      // What is one's own takes no permit that a lock would end, so a connection stands for it.
      const connection = permit ? undefined : session.connect('https')
      const over = () => connection?.closed()
      try {
        const streamed = streams.open(session, permit?.signal ?? connection!.signal, (send) =>
          audit.watch((envelope) => {
            if (of !== undefined && envelope.actor?.id !== of) return
            if (permit === undefined && !isMine(session, envelope)) return
            send({ id: envelope.id, data: noticeOf(envelope) })
          }, TOLD),
        )
        streamed.done.then(over, over)
        return streamed
      } catch (error) {
        over()
        throw error
      }
    },
    close: () => streams.close(),
  }
}

function noticeOf({ at, type, session, actor, data = {}, outcome }: Envelope): SessionNotice {
  const said = (key: string) => (typeof data[key] === 'string' ? data[key] : undefined)
  const words = [
    said('how'),
    said('protocol'),
    said('kind'),
    said('name'),
    said('reason') ?? (typeof outcome?.reason === 'string' ? outcome.reason : undefined),
  ]
  return {
    at,
    type,
    ...(session === undefined ? {} : { session }),
    ...(actor === undefined ? {} : { who: actor.name }),
    text: words.filter((word) => word !== undefined).join(' '),
  }
}
