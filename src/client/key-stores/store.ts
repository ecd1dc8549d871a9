import { createPrivateKey } from 'node:crypto'
import { ChaperoneError } from '../../errors.ts'

/**
 * Where a person's private key lies on his own machine.
 *
 *   secret-service  GNOME Keyring, KWallet and others, by `secret-tool`: encrypted under the login password, open while he is logged in
 *   keychain        macOS, by `security`: the same
 *   file            in the profile, encrypted with a key in another file of his. That keeps a profile that is copied alone (into a
 *                   ticket, a backup of the configuration) from being worth anything. Whoever reads all his files reads both.
 *
 * None of them keeps a program away that runs as the same user: see SECURITY.md.
 */
export type KeyPlace = 'secret-service' | 'keychain' | 'file'

export interface KeyStore {
  readonly place: KeyPlace
  /** In words, for `chaperone doctor`. */
  readonly says: string
  /** Keeps a key (PEM, PKCS #8) of this address. Returns what the profile must keep of it. */
  put(address: string, key: string): Promise<KeptKey>
  /** Throws `credential_invalid` when it is not there (any more), `unavailable_here` when the store is locked or does not answer. */
  get(address: string, kept: KeptKey): Promise<string>
  remove(address: string): Promise<void>
}

/** In the profile, in the place of the key. */
export interface KeptKey {
  readonly in: KeyPlace
  /** `file`: base64url of nonce, tag and ciphertext */
  readonly sealed?: string
}

export const lost = (address: string) =>
  new ChaperoneError('credential_invalid', `The key of ${address} is not in the key store of this machine any more.`, {
    fix: 'Sign in again: chaperone login with an invitation, or chaperone login --device.',
  })

export const locked = (what: string) =>
  new ChaperoneError('unavailable_here', `${what} is locked, and was not unlocked.`, {
    fix: 'Unlock it and try again. Where nobody can (no screen), keep keys in files: CHAPERONE_KEY_STORE=file chaperone login --device',
  })

/** `said`: what its program wrote, for the log alone. */
export const silent = (what: string, { said = '', cause }: { readonly said?: string; readonly cause?: unknown } = {}) =>
  new ChaperoneError('unavailable_here', `${what} does not answer.`, {
    fix: 'Try again in a session of the desktop; or keep keys in files: CHAPERONE_KEY_STORE=file chaperone login --device',
    ...(said === '' ? {} : { detail: said.slice(0, 300) }),
    ...(cause === undefined ? {} : { cause }),
  })

/** One line of text instead of PEM: `security` shows what has several lines as hex. */
export const toLine = (pem: string): string => createPrivateKey(pem).export({ type: 'pkcs8', format: 'der' }).toString('base64url')

export function fromLine(address: string, text: string): string {
  try {
    return createPrivateKey({ key: Buffer.from(text.trim(), 'base64url'), type: 'pkcs8', format: 'der' }).export({
      type: 'pkcs8',
      format: 'pem',
    }) as string
  } catch {
    throw lost(address)
  }
}

/** It stands in arguments, and in a line that `security` reads, in quotes. */
export function assertAddress(address: string): void {
  if (!/^[A-Za-z0-9.:[\]-]{1,300}$/.test(address)) throw new ChaperoneError('usage', 'This is not an address.')
}
