import type { z } from 'zod'
import type { Database, Write } from '../../store/store.ts'
import type { StartSession } from '../types.ts'
import type { Vouched } from './revocation-list.ts'
import type { RevocationLists } from './revocation-lists.ts'
import type { Telling } from './telling.ts'

/** What an agent may join by. A one-time token names its agent itself and needs no document. */
export const JOIN_METHODS = ['oidc', 'github', 'gitlab', 'kubernetes', 'aws', 'bound-key', 'x509'] as const
export type JoinMethodName = (typeof JOIN_METHODS)[number]

/** What a proof says of whoever shows it, by names that rules use. A list matches when one of its members does. */
export type Claims = Readonly<Record<string, string | readonly string[]>>

/** What a method found proven. Nothing was written yet. */
export interface Proven {
  /** who it is, in the words of whoever vouches for it: stands in the record and in lists */
  readonly subject: string
  readonly claims: Claims
  /** certificates that it rests on: a session ends when one of them is revoked */
  readonly certificates?: readonly Vouched[]
  /** The proof counts once: `key` names it among all others of its document, `until` (ms since 1970) is when nobody would believe it any more. */
  readonly once?: { readonly key: string; readonly until: number }
  /** Methods that keep count do so here, after the rules were met, in one transaction. Throws what the caller is told. */
  readonly count?: (trx: Write) => Promise<Counted>
}

/** What came of counting. */
export interface Counted {
  /** the count that the client must bring the next time */
  readonly joins: number
  /** sessions that end now, because this one takes their place */
  readonly instead: readonly string[]
  /** Who made the means to join, and could have joined with it himself: nobody decides about what he asks for by it. */
  readonly issuerId?: string
  /** the session that this counts for, and its first credential */
  readonly session: NonNullable<StartSession['counted']>
}

/** What a method is given beside its document and the proof. */
export interface JoinContext {
  /** name of the document */
  readonly document: string
  /** id of the agent that would come in */
  readonly agentId: string
  /** whom a proof must be for */
  readonly audience: string
  /** DER of the key that the certificate will be for */
  readonly spki: Uint8Array
  readonly now: number
  /** Reads outside. Throws `upstream_unavailable`, `upstream_timeout`. */
  readonly open: OpenFetch
  /** Keys of an issuer, kept and bounded. */
  readonly keys: IssuerKeys
  /** What authorities have revoked, kept and bounded. */
  readonly lists: RevocationLists
  /** When the nonce that this server gave out stops to count; undefined for one that is no longer good, or not ours. */
  readonly challenge: (nonce: string) => number | undefined
  /** sha256 hex of the authorities of this server: a proof names the one that its client believes. */
  readonly servers: () => Promise<readonly string[]>
  readonly store: { readonly db: Database }
}

/** Opens the way to one address outside; what it may reach, and what it believes, is decided by what the document says. */
export type OpenFetch = (to: Reached) => (url: string, init?: RequestInit) => Promise<Response>

export interface Reached {
  /** for messages: `the issuer https://...` */
  readonly name: string
  /** where the administrator sent us */
  readonly origin: URL
  /** PEM, believed beside the public authorities */
  readonly ca?: string | undefined
  /** whether it may lie inside our own network */
  readonly allowPrivate: boolean
  /** default: what keys and tokens take */
  readonly maxBytes?: number
}

/** Where the keys of an issuer are. */
export interface KeyPlace {
  readonly issuer: string
  /** pinned: nothing is fetched */
  readonly jwks?: { readonly keys: readonly Readonly<Record<string, unknown>>[] } | undefined
  /** address of the key set, where that is not found by discovery */
  readonly jwksUri?: string | undefined
  readonly ca?: string | undefined
  readonly allowPrivate?: boolean | undefined
}

export interface IssuerKeys {
  /** The usable keys of the issuer; looked for again, at a limited rate, when none has this `kid`. Throws `upstream_unavailable`. */
  of(place: KeyPlace, kid: string | undefined): Promise<readonly Readonly<Record<string, unknown>>[]>
}

/** One way to join: what its documents say, and how a proof is looked at. */
export interface JoinMethod<Spec = unknown, Proof = unknown> {
  readonly name: JoinMethodName
  /** the block of the document under the method's name */
  readonly spec: z.ZodType<Spec>
  /** what the client sends */
  readonly proof: z.ZodType<Proof>
  /** Claims there are; undefined where the issuer decides. */
  readonly claims?: readonly string[]
  /** Claims that say whose it is. Each rule must have one of them, or everybody whom the issuer knows could join. */
  readonly telling?: Readonly<Record<string, Telling>>
  /** What `longest` may say at most where it is not for the usual reasons; and whether a client can prove itself again at any time. */
  readonly provableAgain: boolean
  /** What is wrong with a block, beyond its schema. */
  faults?(spec: Spec): readonly { readonly path: readonly (string | number)[]; readonly message: string; readonly fix?: string }[]
  /** Throws JoinRefused, `upstream_unavailable`. */
  prove(proof: Proof, spec: Spec, context: JoinContext): Promise<Proven>
}
