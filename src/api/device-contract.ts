import type { Credential } from './contract.ts'

/** A terminal waits to be signed in from a browser. */
export interface DeviceBegin {
  readonly csr: string
  /** host name of the machine, as it calls itself */
  readonly host: string
}
export interface DeviceBegun {
  /** what it asks again with */
  readonly device: string
  /** what its person types in the browser */
  readonly code: string
  /** where */
  readonly url: string
  readonly expiresAt: number
  readonly intervalMs: number
}
export interface DevicePoll {
  readonly device: string
}
export type DevicePolled =
  | { readonly state: 'pending' | 'slow_down'; readonly intervalMs: number }
  | { readonly state: 'signed in'; readonly credential: Credential }
