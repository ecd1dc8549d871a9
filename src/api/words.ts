import { z } from 'zod'
import { parseDuration } from '../encoding/duration.ts'
import { ChaperoneError } from '../errors.ts'

/** Shapes that several bodies share, each with its bound. */
export const nameText = z.string().min(1).max(130)
export const csrText = z.string().min(1).max(8192)
export const secretText = z.string().min(1).max(256)
export const codeText = z.string().min(1).max(16)
export const purposeText = z.string().min(1).max(500)
export const ttlText = z.string().min(1).max(32)

/** Milliseconds of a written time inside bounds. Throws `usage`. */
export function duration(text: string, bounds: { readonly shortestMs: number; readonly longestMs: number }, what: string): number {
  let ms: number
  try {
    ms = parseDuration(text)
  } catch (error) {
    if (!(error instanceof ChaperoneError)) throw error
    throw new ChaperoneError('usage', error.message, error.fix === undefined ? {} : { fix: error.fix })
  }
  if (ms < bounds.shortestMs || ms > bounds.longestMs) {
    const hours = bounds.longestMs / 3_600_000
    throw new ChaperoneError(
      'usage',
      `${what} lives between ${bounds.shortestMs / 1000} seconds and ${hours > 48 ? `${hours / 24} days` : `${hours} hours`}.`,
    )
  }
  return ms
}

/** A whole number of the query, at least 1. Throws `usage`. */
export function count(query: URLSearchParams, key: string, most: number, usual: number): number {
  const text = query.get(key)
  if (text === null) return usual
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new ChaperoneError('usage', `\`${key}\` must be a whole number from 1 to ${most}.`)
  return Math.min(value, most)
}
