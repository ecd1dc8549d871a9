import type { z } from 'zod'
import type { Verb } from '../access/administration.ts'
import type { Permit } from '../access/types.ts'
import type { ChaperoneError } from '../errors.ts'
import type { Connection, LiveSession } from '../identity/types.ts'
import type { Exactly } from './asking.ts'

/**
 * Who may call a route. There is no other kind: a route without a decision cannot be written down.
 *
 *   proof    nobody is signed in yet; what the body holds (a secret, a device key, a token) proves who asks
 *   session  whoever is signed in, about what is his own
 *   verbs    one of these administration verbs, decided by policy and recorded like every other action
 */
export type Who =
  | { readonly by: 'proof' }
  | { readonly by: 'session' }
  | {
      readonly by: 'verbs'
      readonly anyOf: readonly [Verb, ...Verb[]]
      /** What is about oneself needs no verb. `first`: asked before policy; `otherwise`: only when policy says no. */
      readonly own?: {
        readonly when: 'first' | 'otherwise'
        test(asked: Asked<unknown>): boolean | Promise<boolean>
        /** What whoever has no verb hears of what is not his own: that it is not there, where he may not know of it (rule 8). */
        unseen?(asked: Asked<unknown>): ChaperoneError | undefined | Promise<ChaperoneError | undefined>
        /** A person needs a fresh second factor for his own, too. */
        readonly factor?: true
      }
    }

/** What a handler is given: everything in it has been checked. */
export interface Asked<Body> {
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  readonly body: Body
  /** the peer's address */
  readonly remote: string
  /** the Host that the client used, for an answer that names an address */
  readonly host: string
  /** `Last-Event-ID` of a reader that comes back to a stream */
  readonly lastEvent?: string
}

export interface AskedInSession<Body> extends Asked<Body> {
  readonly session: LiveSession
  /** Set when a human said yes to this: what he said it to. */
  readonly exactly?: Exactly
  /** What the request came in on: a session has several, each with its own certificate. */
  readonly connection?: Connection
  /** Set when policy allowed a verb; absent when it is about oneself. */
  readonly permit?: Permit
  /** The verb that allowed it. */
  readonly verb?: Verb
}

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'

interface Shape<Body> {
  readonly method: Method
  /** `/v1/documents/:kind/:name` */
  readonly path: string
  /** The body's schema; without one a body is refused. */
  readonly body?: z.ZodType<Body>
  /** Bytes; default 1 MiB. */
  readonly limit?: number
  /** The body never goes into a record. */
  readonly secretBody?: boolean
  /** Whether a person needs a fresh second factor; default: with `verbs` whatever is no GET, with `session` nothing. */
  readonly factor?: (body: Body) => boolean
  /** Programs ask for it by themselves, so that a session in which nothing else is asked for is idle. */
  readonly keepsAlive?: true
  /** One line for the record, without secrets. */
  readonly summary?: (asked: Asked<Body>) => string
}

export interface AnonymousRoute<Body> extends Shape<Body> {
  readonly who: { readonly by: 'proof' }
  /**
   * Who is known by what he holds, before anything is guessed: he is counted by that. All others are counted by their address, behind
   * which anybody can send anything, and would shut him out.
   */
  knows?(body: Body): Promise<string | undefined>
  handle(asked: Asked<Body>): Promise<unknown>
}

export interface SessionRoute<Body> extends Shape<Body> {
  /** What would be done, for whoever a rule asks about it; without it the request itself is what he reads. */
  exactly?(asked: Omit<AskedInSession<Body>, 'exactly'>): Promise<Exactly>
  readonly who: Exclude<Who, { by: 'proof' }>
  /** A plain value is answered as JSON; a Response as it is (the permit is then settled by `Streamed`). */
  handle(asked: AskedInSession<Body>): Promise<unknown>
}

// biome-ignore lint/suspicious/noExplicitAny: the table holds routes of many bodies; each was checked where it was written
export type Route = AnonymousRoute<any> | SessionRoute<any>

/** Ties the type of the body's schema to the handler's; the table itself forgets it. */
export const anonymous = <Body = undefined>(route: AnonymousRoute<Body>): Route => route
export const signedIn = <Body = undefined>(route: SessionRoute<Body>): Route => route

/** An answer that goes on: its permit is settled when `done` resolves, not when the answer begins. */
export class Streamed {
  readonly response: Response
  readonly done: Promise<void>

  constructor(response: Response, done: Promise<void>) {
    this.response = response
    this.done = done
  }
}
