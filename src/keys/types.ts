import type { KeyObject } from 'node:crypto'

/** What a key is for. One key is never used for two of these. */
export type Purpose = 'vault' | 'factors' | 'handles' | 'values' | 'tokens' | 'assertions' | 'svids' | 'checkpoints' | `authority:${string}`

/** Wraps and unwraps the keys of the purposes. The seam for a KMS: a file, a systemd credential or a passphrase today. */
export interface RootKey {
  /** e.g. `file:/etc/chaperone/root.key`; for messages, never the key */
  readonly source: string
  wrap(plain: Uint8Array, context: string): Promise<Uint8Array>
  unwrap(wrapped: Uint8Array, context: string): Promise<Uint8Array>
}

/** The opened keys. Private halves never leave this object except as KeyObject handles. */
export interface Keyring {
  /** Seals under the active key of the purpose; `context` is authenticated, not stored. Output: key id length, key id, nonce, ciphertext, tag. */
  seal(purpose: Purpose, plain: Uint8Array | string, context: string): Promise<Uint8Array>
  /** Opens with whichever active or retiring key sealed it. Throws ChaperoneError('key_mismatch'). */
  open(purpose: Purpose, sealed: Uint8Array, context: string): Promise<Buffer>
  /** 32 bytes that follow from the active key of the purpose and `use`: for hashes that nobody without the store can make. Another one after each rotation. */
  derive(purpose: Purpose, use: string): Promise<Buffer>
  /** The active signing key (made on first use): Ed25519 for checkpoints, P-256 for tokens and authorities. */
  signer(purpose: Purpose): Promise<{ readonly id: string; readonly privateKey: KeyObject; readonly publicKey: KeyObject }>
  /** Active and retiring public keys: what is still believed. */
  verifiers(purpose: Purpose): Promise<readonly { readonly id: string; readonly publicKey: KeyObject }[]>
  /** A new active key; the old one still opens and verifies until `overlapMs` has passed. */
  rotate(purpose: Purpose, overlapMs: number): Promise<{ readonly id: string }>
}
