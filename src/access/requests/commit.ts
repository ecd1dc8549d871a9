import type { Store, Write } from '../../store/store.ts'
import type { Changes } from './changes.ts'
import type { AccessRequest, RequestEvent } from './types.ts'

/** Told inside the transaction of each change, so that what is to be told outside is stored with it, or neither is. */
export type Announce = (trx: Write, event: RequestEvent) => Promise<void>

/**
 * One change of a request, of which there is a record already: its row and what is told outside are stored together, and who waits
 * for it hears of it afterwards. `rights`: it gives or takes a role, so it goes with the epoch and is in force on every node when
 * this resolves. Resolves with what `write` gave; nothing is told of undefined.
 */
export type Commit = <T extends AccessRequest | undefined>(
  type: RequestEvent['type'],
  write: (trx: Write) => Promise<T>,
  more?: { readonly rights?: boolean },
) => Promise<T>

export interface CommitParts {
  readonly store: Store
  readonly changes: Pick<Changes, 'tell'>
  readonly announce: Announce
  /** Rights have changed: resolves when every node has taken that in. */
  readonly raised: (epoch: number) => Promise<void>
}

export function makeCommit({ store, changes, announce, raised }: CommitParts): Commit {
  return async (type, write, { rights = false } = {}) => {
    const stored = async (trx: Write) => {
      const request = await write(trx)
      if (request) await announce(trx, { type, request })
      return request
    }
    const given = async () => {
      const { result, epoch } = await store.reduce(stored)
      await raised(epoch)
      return result
    }
    const request = rights ? await given() : await store.write(stored)
    if (request) changes.tell({ type, request })
    return request
  }
}

/** Whether this takes back, or ends, a role that somebody has. */
export const endsRights = ({ kind, state }: AccessRequest, next: AccessRequest['state'] | undefined): boolean =>
  kind === 'access' && state === 'approved' && next !== undefined
