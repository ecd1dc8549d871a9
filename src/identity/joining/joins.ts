import type { AuditLog } from '../../audit/record.ts'
import { TTL } from '../../ca/types.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Keyring } from '../../keys/types.ts'
import type { Store } from '../../store/store.ts'
import { findIdentity, type IdentityRecord } from '../directory.ts'
import type { Sessions } from '../types.ts'
import { makeChallenge, readChallenge } from './challenge.ts'
import { blockOf, type JoinSpec, lifeOf } from './document.ts'
import { openIssuerKeys } from './issuer-keys.ts'
import { openSessionsOfKey, revokeKey } from './join-keys.ts'
import { KeyCopied } from './key-copied.ts'
import type { Claims, Counted, OpenFetch, Proven } from './method.ts'
import { METHODS } from './methods.ts'
import { JoinRefused, shownValue, UNKNOWN } from './refused.ts'
import { openRevocationLists } from './revocation-lists.ts'
import { sessionsRevoked } from './revoked-sessions.ts'
import { matchRules } from './rules.ts'
import { useProof } from './used-proofs.ts'

export interface JoiningParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly keyring: Pick<Keyring, 'derive'>
  readonly clock: Pick<Clock, 'now'>
  readonly trustDomain: string
  readonly sessions: Pick<Sessions, 'end'>
  /** The spec of the `join` document of this name, as applied. */
  readonly document: (name: string) => JoinSpec | undefined
  readonly open: OpenFetch
  /** sha256 hex of every server authority that is believed */
  readonly servers: () => Promise<readonly string[]>
}

export interface JoinAsk {
  /** name of the document */
  readonly join: string
  readonly proof: unknown
  /** DER of the key that the certificate will be for */
  readonly spki: Uint8Array
}

/** Somebody who has proven to be an agent; nothing was written yet. */
export interface Joined {
  readonly agent: IdentityRecord
  readonly document: string
  readonly method: string
  readonly subject: string
  readonly claims: Claims
  /** of each credential */
  readonly ttlMs: number
  /** of the session */
  readonly longestMs: number
  readonly proven: Proven
}

export interface Joining {
  /** What a proof must hold that is made for this moment. Said to whoever asks. */
  challenge(): Promise<{ readonly nonce: string; readonly notAfter: number }>
  /** Finds the document, looks at the proof and holds it against the rules. Throws JoinRefused, `identity_disabled`, `upstream_unavailable`. */
  prove(ask: JoinAsk): Promise<Joined>
  /** Uses the proof up, and counts. Throws JoinRefused for one that was used; then whatever rests on a copied key was ended. */
  take(joined: Joined): Promise<Counted | undefined>
  /** Ends the sessions that rest on a certificate that was revoked since. */
  endRevoked(failed: (error: unknown) => void): Promise<void>
  /** Whom a proof for this document must be for. */
  audienceOf(spec: JoinSpec): string
}

export function openJoining(parts: JoiningParts): Joining {
  const { store, audit, keyring, clock, trustDomain, sessions, open, servers } = parts
  const keys = openIssuerKeys({ open, clock })
  const lists = openRevocationLists({ open, clock })
  const challengeKey = () => keyring.derive('values', 'challenges of joining')
  const audienceOf = ({ audience }: JoinSpec) => audience ?? `https://${trustDomain}`

  return {
    audienceOf,
    challenge: async () => makeChallenge(await challengeKey(), clock.now()),

    async prove({ join, proof, spki }) {
      const spec = parts.document(join)
      const shortName = join.slice(0, 64)
      if (!spec) throw new JoinRefused(UNKNOWN, { why: 'unknown document', document: shortName })
      const method = METHODS[spec.method]
      const read = method.proof.safeParse(proof)
      const agent = await findIdentity(store.db, { name: spec.agent })
      if (agent?.kind !== 'agent') throw new JoinRefused(UNKNOWN, { why: `no agent ${spec.agent}`, document: join, method: spec.method })
      // What is not a proof of this method at all may be one of another: nobody learns here which method a document has.
      if (!read.success) throw new JoinRefused(UNKNOWN, { why: `no proof of ${spec.method}`, document: join, method: spec.method })
      const now = clock.now()
      const key = await challengeKey()
      const proven = await method.prove(read.data, blockOf(spec), {
        document: join,
        agentId: agent.id,
        audience: audienceOf(spec),
        spki,
        now,
        open,
        keys,
        lists,
        servers,
        store,
        challenge: (nonce) => readChallenge(key, nonce, now),
      })
      if (spec.allow.length > 0 || spec.method !== 'bound-key') {
        const matched = matchRules(spec.allow, proven.claims)
        if (!matched.met) {
          const { claim, wanted, value } = matched.by
          throw new JoinRefused(`its claim \`${claim}\` is ${shownValue(value)}.`, {
            why: 'no rule holds',
            document: join,
            method: spec.method,
            subject: proven.subject,
            claim,
            value: shownValue(value),
            rule: shownValue(wanted),
          })
        }
      }
      if (agent.state !== 'active') throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
      const longestMs = Math.min(lifeOf(spec.longest), TTL.longestMs)
      return {
        agent,
        document: join,
        method: spec.method,
        subject: proven.subject,
        claims: proven.claims,
        ttlMs: lifeOf(spec.ttl),
        longestMs,
        proven,
      }
    },

    async take({ agent, document, method, subject, proven }) {
      const { once, count } = proven
      try {
        return await store.write(async (trx) => {
          if (once && !(await useProof(trx, 'join', once)))
            throw new JoinRefused(
              'this was shown before, and counts once.',
              { why: 'used before', document, method, subject },
              { fix: 'Get a new token, and join with that. Where a machine has the same one for a while, its document may say `once: false`.' },
            )
          return await count?.(trx)
        })
      } catch (error) {
        if (!(error instanceof KeyCopied)) throw error
        const { agentId, spki, subject: key } = error.key
        const now = clock.now()
        const opened = () => openSessionsOfKey(store.db, { agentId, subject: key, now })
        const actor = { id: agent.id, name: agent.name, kind: agent.kind }
        await audit.append({ type: 'credential.copied', actor, data: { document, key, sessions: await opened() } })
        await store.write((trx) => revokeKey(trx, spki, now))
        // After it is revoked: what began meanwhile is seen here, and what begins later sees that.
        const running = await opened()
        if (running.length > 0) await sessions.end(running, 'copied')
        throw error.refusal
      }
    },

    async endRevoked(failed) {
      const ids = await sessionsRevoked({ db: store.db, now: clock.now(), document: parts.document, lists, failed })
      if (ids.length > 0) await sessions.end(ids, 'certificate')
    },
  }
}
