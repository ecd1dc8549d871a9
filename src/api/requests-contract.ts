/**
 * Access requests, as the API answers them: a part of contract.ts. Whoever is signed in may call all of it; what he sees and
 * decides is said by the request itself (access/requests/), and what he may not see is answered as what does not exist.
 *
 *   POST /v1/requests      RequestAsk   -> RequestRow                access: it may come back approved
 *   GET  /v1/requests[?state=&kind=&mine=asked|to_decide&limit=] -> { requests: RequestRow[] }
 *   GET  /v1/requests/ways              -> { ways: RequestWay[] }    what may be asked for
 *   GET  /v1/requests/events            -> text/event-stream of RequestNotice; the first is a snapshot
 *   GET  /v1/requests/:id               -> RequestDetail
 *   POST /v1/requests/:id/decide RequestDecide -> RequestRow         a person's own, with a fresh second factor
 *   POST /v1/requests/:id/withdraw {}   -> RequestRow                one's own; also gives back what was granted
 *   POST /v1/requests/:id/revoke { reason } -> RequestRow            fresh second factor
 *   POST /v1/requests/:id/review { note }   -> RequestRow            of break-glass; fresh second factor
 */
import type { CallWish, RequestEvent, RequestKind, RequestState, Standing } from '../access/requests/types.ts'
import type { Way } from '../policy/types.ts'
import type { ServerWish } from './mcp-contract.ts'

export type RequestAsk = ServerAsk | AccessAsk

export interface ServerAsk extends ServerWish {
  readonly kind: 'server'
  readonly reason: string
  /** what it is for, as claimed */
  readonly purpose?: string
}

export interface AccessAsk {
  readonly kind: 'access'
  readonly role: string
  /** on this alone */
  readonly resource?: { readonly kind: string; readonly name: string }
  /** `10m`; default: as long as the role allows */
  readonly for?: string
  /** ms since 1970; default: from the yes on */
  readonly startsAt?: number
  readonly reason?: string
  readonly purpose?: string
  readonly breakGlass?: true
}

export interface RequestDecide {
  readonly verdict: 'approve' | 'deny'
  /** `seen` of the request as it was shown: when it is another one by now, nothing is decided */
  readonly seen: string
  readonly reason?: string
  /** access: shorter than was asked for, never longer */
  readonly for?: string
  /** access: those who act for the one who asked have it as well */
  readonly below?: true
}

/** One request. Names are those of now; times are ms since 1970. */
export interface RequestRow {
  readonly id: string
  readonly kind: RequestKind
  readonly state: RequestState
  /** what it is, in a line */
  readonly summary: string
  readonly by: string
  /** on whose behalf, from the first to the one who asks; alone when for himself */
  readonly chain: readonly string[]
  readonly reason: string
  /** No reason was given: it is the purpose, as said with the question or by the session when it began. That of a call always is. */
  readonly reasonFrom?: 'purpose' | 'session'
  /** as claimed by who asks */
  readonly purpose?: string
  readonly session?: string
  /** `kind/name` */
  readonly resource?: string
  /** kind `access` */
  readonly access?: { readonly role: string; readonly forMs: number; readonly breakGlass?: true; readonly below: boolean }
  /** kind `call` */
  readonly call?: Pick<CallWish, 'kind' | 'operation' | 'effects' | 'message'> & { readonly rules: readonly string[] }
  /** kind `server` */
  readonly wish?: ServerWish
  /** who must say yes, in words */
  readonly approvers: string
  readonly votes: readonly {
    readonly by: string
    readonly verdict: 'approve' | 'deny'
    readonly reason?: string
    /** `cli`, `browser` */
    readonly how: string
    /** the second factor that it was given with */
    readonly factor?: 'totp' | 'passkey' | 'directory'
    readonly at: number
    /** What was asked for says something else by now: it counts no more. */
    readonly outdated?: true
  }[]
  readonly createdAt: number
  readonly updatedAt: number
  /** pending: until when it can be answered; an approved call: until when it can be used */
  readonly expiresAt?: number
  readonly startsAt?: number
  readonly endsAt?: number
  readonly decidedBy?: string
  readonly decidedAt?: number
  readonly escalatedAt?: number
  readonly reviewDue?: number
  readonly reviewedBy?: string
  /** what came of a call that was used */
  readonly outcome?: string
  /** of who looks at it */
  readonly standing: Standing
  /** sha256 (hex) of what is shown: given back with the decision */
  readonly seen: string
  /** where it is decided in a browser; opening it approves nothing */
  readonly url: string
}

/** `text` is as it was written, and what is bound. SQL comes with a layout of the same tokens besides, or with why there is none. */
export type ShownPart = CallWish['shown'][number] & { readonly formatted?: string; readonly unformatted?: string }

export interface RequestDetail extends RequestRow {
  /** kind `call`: what will run, in the order to be read; secrets are masked, long texts cut visibly. Written by who asks: show it with care. */
  readonly shown: readonly ShownPart[]
  /** What the session did before, newest first, as far as who looks may see it. */
  readonly before?: {
    readonly actions: readonly RequestBefore[]
    /** `resource`: only what was done on the resource that it is about */
    readonly of: 'session' | 'resource'
    /** There is more than this. */
    readonly more: boolean
  }
}

export interface RequestBefore {
  /** of the record */
  readonly id: string
  readonly at: number
  readonly action: string
  /** `kind/name` */
  readonly resource: string
  readonly verdict: 'allow' | 'ask' | 'deny'
  readonly outcome?: string
}

export interface RequestWay extends Way {
  /** name of the link that may ask */
  readonly by: string
  readonly resources: readonly { readonly kind: string; readonly name: string }[]
}

/** One event of the stream. `snapshot`: what waits now, and after a reconnect what has changed since. */
export type RequestNotice =
  | { readonly type: 'snapshot'; readonly requests: readonly RequestRow[] }
  | { readonly type: RequestEvent['type']; readonly request: RequestRow }
