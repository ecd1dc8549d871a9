/** By what people and agents come in; see tables.ts. */

export interface FactorTable {
  id: string
  identity_id: string
  kind: 'totp'
  /** sealed with the purpose `factors` */
  sealed: Uint8Array
  /** the last TOTP step that was accepted: a code works once (RFC 6238 section 5.2); -1: offered to an invitation, not confirmed, opens nothing */
  last_step: number
  failures: number
  blocked_until: number
  created_at: number
}

/** The public key that a person enrolled: signing in again needs it and the second factor. */
export interface DeviceTable {
  id: string
  identity_id: string
  public_key: Uint8Array
  created_at: number
  revoked_at: number | null
}

/** An invitation (for a user), a join token (for an agent), or a link by which a signed-in person takes his session to a browser; works once. Only the hash of its secret is kept. */
export interface InvitationTable {
  id: string
  kind: 'invitation' | 'join' | 'browser'
  identity_id: string
  secret_sha256: string
  created_by: string | null
  created_at: number
  expires_at: number
  used_at: number | null
}

/** A browser that a person enrolled: with it, signing in needs the second factor alone. Only the hash of its cookie is kept. */
export interface BrowserTable {
  id: string
  identity_id: string
  secret_sha256: string
  /** as it calls itself */
  name: string
  created_at: number
  last_used_at: number
  expires_at: number
  revoked_at: number | null
}

/** A browser that is signed in: the cookie of one identity session. */
export interface WebSessionTable {
  secret_sha256: string
  session_id: string
  identity_id: string
  browser_id: string | null
  created_at: number
  last_used_at: number
  expires_at: number
}

export interface PasskeyTable {
  /** WebAuthn credential id, base64url */
  id: string
  identity_id: string
  /** COSE */
  public_key: Uint8Array
  counter: number
  /** JSON */
  transports: string
  name: string
  created_at: number
  last_used_at: number | null
  revoked_at: number | null
}

/** A question to a passkey that is not answered yet. One use, minutes. */
export interface ChallengeTable {
  id: string
  identity_id: string | null
  /** JSON */
  data: string
  expires_at: number
}
