import type { Flag } from '../catalog/flag-types.ts'
import type { PinKind } from '../catalog/pins.ts'
import type { RoleNotice } from '../documents/offers.ts'
import type { Problem } from '../documents/types.ts'
import type { Effect } from '../policy/types.ts'

/** An MCP server that somebody wants: its document without the kind. */
export interface ServerWish {
  readonly name: string
  readonly labels?: Readonly<Record<string, string>>
  readonly spec: Readonly<Record<string, unknown>>
}

export interface McpScan {
  /** of the protocol, as the handshake agreed */
  readonly version: string
  readonly about: { readonly name?: string; readonly version?: string; readonly title?: string }
  readonly items: readonly McpScanned[]
  /** It offers more than is looked at. */
  readonly more: boolean
  /** about the entry itself: command, environment, address */
  readonly flags: readonly Flag[]
  readonly warnings: readonly Problem[]
  /** rules applied by now that would not fit what it offers */
  readonly notices: readonly RoleNotice[]
}

export interface McpScanned {
  readonly kind: PinKind
  readonly name: string
  /** what a pin of it would be of */
  readonly sha256: string
  /** its beginning */
  readonly description: string
  /** Tools: a proposal, where it comes from, and why. */
  readonly effects?: readonly Effect[]
  readonly effectsFrom?: 'annotations' | 'name' | 'default'
  readonly why?: string
  readonly flags: readonly Flag[]
}

export interface McpLooked {
  readonly seen: number
  readonly more: boolean
  /** rules that do not fit what it offers */
  readonly notices: readonly RoleNotice[]
}
