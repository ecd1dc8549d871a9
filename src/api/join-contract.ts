/** Joining by a document; see contract.ts for the paths. */

/** By a document of kind `join`. */
export interface JoinBy {
  /** its name */
  readonly join: string
  /** as the method says (identity/joining) */
  readonly proof: Readonly<Record<string, unknown>>
  readonly csr: string
  readonly purpose?: string
  /** at most what the document says */
  readonly ttl?: string
  /** life of the session, at most what the document says */
  readonly for?: string
}
/** What whoever joins by a document must be told. */
export interface JoinWay {
  readonly name: string
  readonly agent: string
  readonly method: string
  readonly audience: string
  /** the line for `--server` */
  readonly server: string
  /** a join token makes a new key known here */
  readonly registers: boolean
}
export interface JoinChallenge {
  readonly nonce: string
  readonly notAfter: number
}
