import type { JoinRefused } from './refused.ts'

/** Two hold one key. Whoever asks is refused; what is known of the key, and what runs on it, is ended by whoever catches this. */
export class KeyCopied extends Error {
  readonly refusal: JoinRefused
  readonly key: { readonly agentId: string; readonly spki: Uint8Array; readonly subject: string }

  constructor(refusal: JoinRefused, key: KeyCopied['key']) {
    super('a key was copied')
    this.name = 'KeyCopied'
    this.refusal = refusal
    this.key = key
  }
}
