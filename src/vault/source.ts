import { ChaperoneError } from '../errors.ts'

/** A place in which a secret is kept that Chaperone does not keep itself. One file a place: file, env, command. */
export interface Source {
  /** Reads it now. Throws `upstream_unavailable`; no error holds what was read. */
  read(signal: AbortSignal): Promise<string>
}

export const LARGEST_VALUE = 64 * 1024

/** One line end at the end comes from editors and `echo`, and is never part of a secret. Throws for what no header, variable or password can hold. */
export function textOf(bytes: Uint8Array, place: string): string {
  if (bytes.length > LARGEST_VALUE) throw unreadable(place, 'it is over 64 KiB')
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes).replace(/\r?\n$/, '')
  } catch {
    throw unreadable(place, 'it is not UTF-8 text')
  }
  if (text === '') throw unreadable(place, 'it is empty')
  if (text.includes('\0')) throw unreadable(place, 'it holds a NUL byte')
  return text
}

export const unreadable = (place: string, why: string, fix?: string, detail?: string): ChaperoneError =>
  new ChaperoneError('upstream_unavailable', `The secret cannot be taken from ${place}: ${why}.`, {
    ...(fix === undefined ? {} : { fix }),
    ...(detail === undefined ? {} : { detail }),
  })
