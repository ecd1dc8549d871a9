import { randomBytes, timingSafeEqual } from 'node:crypto'

/** What a client may cancel: its own connection, by the key that it was given for it. */
export interface Cancellable {
  /** immutable id of the identity that holds the connection */
  readonly identityId: string
  cancel(): void
}

/** A process number and a secret, as PostgreSQL gives them. */
export interface CancelKey {
  readonly process: number
  readonly secret: Buffer
}

interface Entry extends CancelKey, Cancellable {}

/**
 * The keys that this gateway gave out. The server's own never reach a client: a cancel comes without credentials, on a
 * connection of its own and often in the clear, so it may do no more than stop the one connection its key was made for (B40).
 */
export class CancelKeys {
  readonly #entries = new Map<number, Entry>()

  /** A new key for the connection, and the function that ends it. `long`: the client speaks 3.2, where 32 bits need not be all. */
  give(target: Cancellable, long = false): { readonly key: CancelKey; forget(): void } {
    let process: number
    // Positive, as clients print it as a number; random, so that 64 bits must be guessed and not 32.
    do process = randomBytes(4).readUInt32BE() >>> 1
    while (process === 0 || this.#entries.has(process))
    const secret = randomBytes(long ? 32 : 4)
    this.#entries.set(process, { process, secret, ...target, cancel: () => target.cancel() })
    return { key: { process, secret }, forget: () => this.#entries.delete(process) }
  }

  /** The connection of the key. `identityId` when the cancel came with a credential: then it must be the same one. */
  find({ process, secret }: CancelKey, identityId?: string): Cancellable | undefined {
    const entry = this.#entries.get(process)
    if (!entry || secret.length !== entry.secret.length || !timingSafeEqual(secret, entry.secret)) return undefined
    return identityId === undefined || identityId === entry.identityId ? entry : undefined
  }
}
