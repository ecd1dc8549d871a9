import type { Flag } from '../catalog/flag-types.ts'
import type { PinKind, PinState } from '../catalog/pins.ts'
import type { Effect } from '../policy/types.ts'

/** One thing that an MCP server offers. `changed` and `new` wait for an administrator and cannot be used. */
export interface PinRow {
  readonly server: string
  readonly kind: PinKind
  /** of a template its `uriTemplate`; instructions have none */
  readonly name: string
  readonly state: PinState
  /** since when it is so */
  readonly since: number
  readonly firstSeenAt: number
  /** of the definition that an approval would be of */
  readonly sha256: string
  readonly confirmedBy?: string
  readonly effects?: readonly Effect[]
  readonly effectsFrom?: 'catalog' | 'server' | 'nobody'
  /** with `texts`: the definition that `sha256` is of, as a person reads it; what changed; what is odd about it */
  readonly definition?: string
  readonly diff?: string
  readonly flags?: readonly Flag[]
}

export interface PinsApprove {
  /** exactly what was shown: one that has changed since is refused, and with it all */
  readonly pins: readonly { readonly kind: PinKind; readonly name: string; readonly sha256: string }[]
}

export interface PinKeep {
  readonly kind: PinKind
  readonly name: string
}

export interface PinsDecided {
  /** ms until every node had confirmed it */
  readonly acknowledgedMs: number
}
