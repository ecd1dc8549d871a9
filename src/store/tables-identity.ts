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
