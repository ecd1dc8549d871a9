import type { Limits } from '../policy/types.ts'

/** Bodies of `POST /v1/runs`, `POST /v1/token` and `GET /v1/abilities`. */
export interface RunBegin {
  /** Of a person: what runs, `boris/<client>`. An agent runs as itself, and this is only shown. */
  readonly client?: string
  /** Of a person: name of a document of kind `profile`; `limits` narrow it further. */
  readonly profile?: string
  readonly limits?: Limits
  /** how long at the most */
  readonly for?: string
  readonly purpose?: string
  readonly csr: string
}
export interface TokenAsk {
  readonly audience: string
}
export interface Abilities {
  readonly servers: readonly { readonly name: string; readonly allowed: readonly string[]; readonly asks: readonly string[] }[]
  /** `resource/database` */
  readonly databases: readonly string[]
  readonly may_request: readonly {
    readonly role: string
    readonly for_at_most?: string
    readonly reason?: string
    readonly resources: readonly string[]
  }[]
  readonly cut?: readonly string[]
}
