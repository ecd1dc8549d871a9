/** What people and agents ask for, and what is told outside of it; see tables.ts. */

/** Something that an identity asked for and may not give itself. Indexes: (identity_id, digest), unique among pending ones; (state, expires_at); (updated_at); partial ones over what runs and what is to be reviewed. */
export interface RequestTable {
  id: string
  /** `server`: to add an MCP server; `access`: a role for a while, perhaps on one resource; `call`: one exact call */
  kind: 'server' | 'access' | 'call'
  identity_id: string
  /** JSON, as in `sessions` */
  chain: string
  /** JSON: what is asked for (access/requests/types.ts) */
  body: string
  reason: string
  state: 'pending' | 'approved' | 'denied' | 'expired' | 'withdrawn' | 'used' | 'revoked' | 'unknown'
  decided_by: string | null
  decided_at: number | null
  created_at: number
  /** Each change sets it, from the store's own time that never goes back: who looks for changes asks for what is newer. */
  updated_at: number
  session_id: string | null
  /** what the session said it is for, as claimed */
  purpose: string | null
  /** JSON: who must say yes (access/requests/types.ts) */
  needs: string | null
  /** pending: until when it can be answered; an approved call: until when it can be used */
  expires_at: number | null
  /** of what was granted */
  starts_at: number | null
  ends_at: number | null
  /** of `access`: the role, and the resource when it is for one alone */
  role: string | null
  resource_id: string | null
  /** 1: those who act for the one who asked have it as well, because the approver said so */
  below: number
  /** of a call: sha256 hex of all that the approval is bound to */
  digest: string | null
  /** of a call that was used: the permit, the node that had it, and what came of it */
  permit: string | null
  node_id: string | null
  outcome: string | null
  /** Others may answer, since then. */
  escalated_at: number | null
  /** Break-glass: to be looked at until then, and who did. */
  review_due: number | null
  reviewed_by: string | null
  reviewed_at: number | null
  /** Of a call: when what was shown of it is erased, at the latest. Null: it was. Partial index. */
  erase_at: number | null
}

/** What one person said to a request. Primary key (request_id, identity_id): nobody counts twice. */
export interface RequestVoteTable {
  request_id: string
  identity_id: string
  verdict: 'approve' | 'deny'
  reason: string | null
  /** `cli`, `browser` */
  how: string
  /** the second factor that it was given with; null for what gives none */
  factor: 'totp' | 'passkey' | 'directory' | null
  /** sha256 hex of what was shown: a yes to something else counts no more */
  seen: string | null
  session_id: string
  at: number
}

/** Something that is to be told outside, until it is or nobody tries any more. Indexes: (notifier, state, next_at), (notifier, source, created_at). */
export interface DeliveryTable {
  id: string
  /** name of the `notifier` document */
  notifier: string
  /** the form of the payload: a notifier that was changed to another way does not send it */
  way: 'webhook' | 'slack' | 'mail'
  event: string
  /** id of the identity that it is about: none of them fills a queue alone */
  source: string | null
  /** JSON: the very text that is sent and signed; no secrets. Empty once it is done. */
  payload: string
  state: 'waiting' | 'done' | 'given_up'
  /** how often it was claimed; who claimed it last is the only one who may say what came of it */
  attempts: number
  next_at: number
  /** some node sends it until then */
  claimed_until: number | null
  last_error: string | null
  created_at: number
}
