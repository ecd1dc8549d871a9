/** Every credential with which Chaperone reaches what is behind it: that it exists, never what it is. */
export interface UpstreamCredentials {
  readonly credentials: readonly UpstreamCredentialRow[]
}

export interface UpstreamCredentialRow {
  /**
   * `sealed`: a secret in the vault. `elsewhere`: one that a document says is kept elsewhere. `login`: OAuth that somebody gave.
   * `client`: Chaperone's own login (client credentials). `minted`: the caller's identity, signed for the server.
   * `certificate`: the authority that signs certificates of database users.
   */
  readonly kind: 'sealed' | 'elsewhere' | 'login' | 'client' | 'minted' | 'certificate'
  /** the name of the secret, or `mcp/NAME`, `postgres/NAME` */
  readonly name: string
  /** of a login of each: whose */
  readonly of?: string
  /** `file /run/secrets/crm`, `env CRM_TOKEN`, `command /usr/bin/vault`; of logins: the authorization server */
  readonly from?: string
  /** `mcp/crm`: the documents that name it */
  readonly usedBy: readonly string[]
  /** name of an identity */
  readonly setBy?: string
  /** ms since 1970 */
  readonly setAt?: number
  /** ms since 1970, to the hour */
  readonly usedAt?: number
  /** ms since 1970; not of what renews itself */
  readonly expiresAt?: number
  /** of logins: somebody must log in again before it can be used */
  readonly over?: true
  /** of logins: its tokens are worth nothing without a key that only Chaperone has */
  readonly bound?: true
  /** what somebody should look at, each with the line that helps */
  readonly hints: readonly string[]
}
