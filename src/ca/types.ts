/** What an authority vouches for. Separate roots: a certificate of one opens nothing at another. */
export type AuthorityPurpose = 'identity' | 'server' | `database:${string}`

/** The content of Chaperone's X.509 extension (non-critical, OID in ca/extension.ts): canonical JSON, unknown `v` refused. */
export interface CredentialClaims {
  readonly v: 1
  /** id of the identity that acts */
  readonly identity: string
  readonly credential: string
  readonly session: string
  /** id of the operator who issued it, when one did */
  readonly issuer?: string
  /** (identity id, delegation id) pairs, first = on whose behalf; the last is `identity`. Absent when nobody else is involved. */
  readonly chain?: readonly { readonly identity: string; readonly delegation?: string }[]
}

export interface Issued {
  /**
   * PEM: the leaf first; while a rotation's overlap lasts, also the link by which those who know only the old authority
   * reach the new one, so hand the whole text to TLS. The roots come from `bundle()`.
   */
  readonly certificate: string
  readonly serial: string
  /** ms since 1970 */
  readonly notBefore: number
  readonly notAfter: number
}

/** Issuing is off the data plane's thread. Names never come from a CSR: the CA takes the key and the proof of possession only. */
export interface CertificateAuthority {
  /** For a user, agent or node. `spki` is DER from `readCsr`. `spiffeName` is `<kind>/<name>`. */
  issueIdentity(ask: { spki: Uint8Array; kind: 'user' | 'agent' | 'node'; name: string; claims: CredentialClaims; notAfter: number }): Promise<Issued>
  /** For our own listeners: DNS names and IP addresses. */
  issueServer(ask: { spki: Uint8Array; names: readonly string[]; notAfter: number }): Promise<Issued>
  /** For a connection to a database: CN = database user, minutes. Creates the database's authority on first use. */
  issueDatabase(ask: { spki: Uint8Array; resourceId: string; user: string; notAfter: number }): Promise<Issued>
  /** A database server's own certificate under that database's authority (the demo and `db setup` use it). */
  issueDatabaseServer(ask: { spki: Uint8Array; resourceId: string; names: readonly string[]; notAfter: number }): Promise<Issued>
  /** PEM of every authority of the purpose that is still believed, newest first. Creates the first on first use. */
  bundle(purpose: AuthorityPurpose): Promise<string>
  /** sha256 hex of the SPKI of the active authority. */
  fingerprint(purpose: AuthorityPurpose): Promise<string>
  /** A new key; the old authority is believed until every certificate under it has ended. */
  rotate(purpose: AuthorityPurpose): Promise<{ readonly fingerprint: string; readonly believedUntil: number }>
  /** Called when a bundle changes (rotation, on any node), so that listeners reload. */
  onChange(see: (purpose: AuthorityPurpose) => void): () => void
  close(): Promise<void>
}

/** Shortest and longest life of a credential, and what an agent gets when nobody says. */
export const TTL = { shortestMs: 30_000, longestMs: 12 * 3_600_000, agentMs: 3 * 60_000, userMs: 8 * 3_600_000 } as const
