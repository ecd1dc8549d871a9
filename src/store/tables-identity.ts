/** How agents join, whom directories and OAuth clients speak for; see tables.ts. */

/** The public key of a machine that joins by it (bound key pair): whoever holds the private half, and knows the newest state, is it. */
export interface JoinKeyTable {
  id: string
  /** name of the `join` document */
  document: string
  identity_id: string
  /** SPKI DER */
  public_key: Uint8Array
  /** how often it has joined: a client that brings an older number holds a copy of the key */
  joins: number
  /** how often it may yet come back after its certificates ran out; null: without bound */
  recoveries_left: number | null
  /** who made the token by which it became known: the issuer of whatever joins by it; null: its document names it */
  made_by: string | null
  /** the session that the newest join begins: known before it has begun, so that one that never did is not taken for one that somebody has */
  newest_session: string | null
  created_at: number
  last_used_at: number | null
  revoked_at: number | null
}

/** A proof that counts once (a signed request, a `jti`). Only the hash is kept, for as long as the proof would be believed. */
export interface UsedProofTable {
  /** sha256 hex of issuer and proof */
  key: string
  expires_at: number
}

/** A person as a company's directory knows him. Unique: (directory, subject), (directory, external_id). */
export interface AccountTable {
  id: string
  /** name of the `directory` document */
  directory: string
  /** `sub` of its issuer; null: known by SCIM only, nobody has signed in yet */
  subject: string | null
  identity_id: string
  /** SCIM `externalId` */
  external_id: string | null
  user_name: string
  email: string | null
  /** JSON: what SCIM wrote of the person, as it answers it again */
  data: string
  /** JSON array: groups by their names, as the newest sign-in or SCIM said */
  groups: string
  active: number
  created_at: number
  updated_at: number
  last_login_at: number | null
  /** SCIM deleted it. The row stays: it says whose the name was, and is revived when the very same account comes back. */
  deleted_at: number | null
}

/** One sign-in at a company's provider. The sessions that came of it name it (`joined.signIn`), so that they end when the provider ends it. */
export interface DirectorySigninTable {
  id: string
  /** name of the `directory` document, and its issuer at the time */
  directory: string
  issuer: string
  /** `sub` */
  subject: string
  /** what the provider calls its own session; null: it did not say */
  sid: string | null
  identity_id: string
  /** the sealed refresh token by which the provider is asked again; null: it is not */
  refresh: Uint8Array | null
  /** when the provider last said yes */
  checked_at: number
  /** when it is asked next; null: never */
  next_at: number | null
  created_at: number
  /** nothing that came of it is left by then */
  expires_at: number
  /** the provider ended it, or could not be asked: nothing begins by it any more */
  ended_at: number | null
  end_reason: string | null
}

/** A terminal that waits for somebody to sign it in from a browser (as RFC 8628 does). */
export interface DeviceLoginTable {
  id: string
  /** sha256 hex of what the terminal asks again with */
  device_sha256: string
  /** sha256 hex of the code that its person types */
  code_sha256: string
  /** SPKI DER: the key that the certificate will be for, fixed before anybody says yes */
  public_key: Uint8Array
  /** address it asked from */
  came_from: string
  /** host name, as it claims */
  host: string
  state: 'waiting' | 'approved' | 'denied'
  identity_id: string | null
  /** the browser's session that said yes */
  session_id: string | null
  /** `totp`, `passkey`, `directory`: the factor that was given with the yes */
  factor: string | null
  last_asked_at: number | null
  created_at: number
  expires_at: number
}

/** A group that SCIM keeps here. Unique: (directory, display_name). */
export interface DirectoryGroupTable {
  id: string
  directory: string
  external_id: string | null
  display_name: string
  created_at: number
  updated_at: number
}

/** Primary key (group_id, account_id). */
export interface DirectoryMemberTable {
  group_id: string
  account_id: string
}

/** What the OAuth server keeps: grants, codes, refresh tokens, interactions. Primary key (model, id). */
export interface OauthRecordTable {
  model: string
  /** sha256 hex of what the client holds, where the id is a secret */
  id: string
  /** JSON; no token that opens anything stands in it */
  payload: string
  grant_id: string | null
  user_code: string | null
  uid: string | null
  consumed_at: number | null
  expires_at: number | null
  /** of whoever asked for it without a credential (see network/throttle.ts); null: nobody such */
  network: string | null
}

/** An OAuth client that was met: its metadata as it was believed. */
export interface OauthClientTable {
  client_id: string
  source: 'document' | 'registered' | 'fetched'
  /** JSON */
  metadata: string
  created_at: number
  updated_at: number
  /** a fetched document is looked at again after this */
  fresh_until: number | null
}
