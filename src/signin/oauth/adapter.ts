import { errors } from 'oidc-provider'
import type { Clock } from '../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import type { Store } from '../../store/store.ts'
import type { Clients } from './clients.ts'
import type { Grants } from './grants.ts'
import type { Holder } from './holder.ts'
import { openRecords, type Records, type StoredPayload } from './records.ts'
import { ROUTES } from './routes.ts'

/** The request that is being answered: what the library asks its adapter for depends on it. */
export interface Answering {
  readonly path: string
  /** address of whoever asks */
  readonly from: string
  readonly holder?: Holder
}

interface AdapterParts {
  readonly store: Store
  readonly clock: Clock
  readonly clients: Clients
  readonly grants: Grants
  readonly answering: () => Answering | undefined
}

/** Where the library keeps what it calls a model. */
export function makeAdapter({ store, clock, clients, grants, answering }: AdapterParts): (model: string) => Records {
  return (model) => {
    if (model === 'Client') return clientRecords(clients, () => answering()?.holder)
    const records = openRecords(store, clock, model, () => answering()?.from)
    if (model === 'Grant')
      return {
        ...records,
        async destroy(id) {
          await records.destroy(id)
          // The library destroys a grant when its code or a refresh token comes twice, and when its client gives it back.
          if (answering()?.path === ROUTES.revocation) await grants.end(id)
          else await grants.reused(id)
        },
      }
    if (model === 'ReplayDetection')
      return {
        ...records,
        upsert: (id, payload, expiresIn) =>
          records.upsert(id, payload, expiresIn).catch(unlessConflict(() => new errors.InvalidClientAuth('an assertion is used once'))),
      }
    if (model === 'Interaction')
      return { ...records, destroy: (id) => records.destroy(id).catch(unlessConflict(() => new errors.InvalidRequest('it was answered already'))) }
    if (model !== 'RefreshToken' && model !== 'AuthorizationCode') return records
    return {
      ...records,
      async consume(id) {
        try {
          await records.consume(id)
        } catch (error) {
          if (!(error instanceof ChaperoneError) || error.code !== 'conflict') throw error
          // The other one of two that came at the same moment.
          const payload = await records.find(id)
          if (payload?.grantId !== undefined) await grants.reused(payload.grantId)
          throw new errors.InvalidGrant('used already')
        }
      },
    }
  }
}

const unlessConflict =
  (refusal: () => Error) =>
  (error: unknown): never => {
    throw error instanceof ChaperoneError && error.code === 'conflict' ? refusal() : error
  }

/** Clients are found by documents, registration, their own metadata documents, and by the certificate that they show. */
function clientRecords(clients: Clients, holder: () => Holder | undefined): Records {
  const none = async () => undefined
  return {
    async find(id) {
      try {
        return (await clients.find(id, holder())) as StoredPayload | undefined
      } catch (error) {
        const { message, fix } = toChaperoneError(error)
        throw new errors.InvalidClient([message, fix].filter(Boolean).join(' '))
      }
    },
    async upsert(_id, payload) {
      try {
        await clients.register(payload)
      } catch (error) {
        const { message, detail, code } = toChaperoneError(error)
        if (code === 'too_many') throw new errors.TemporarilyUnavailable(message)
        throw code === 'malformed' ? new errors.InvalidClientMetadata(`${message} ${detail ?? ''}`.trim()) : error
      }
    },
    findByUid: none,
    findByUserCode: none,
    consume: async () => {},
    destroy: async () => {},
    revokeByGrantId: async () => {},
  }
}
