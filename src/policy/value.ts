import { z } from 'zod'
import { assertPattern, compileGlob, type GlobPart, isGlob, matchGlob, parseGlob } from '../encoding/glob.ts'
import { ChaperoneError } from '../errors.ts'
import { fill, hasTemplate, parseTemplate } from './template.ts'
import type { Variables } from './types.ts'

/** Whether a text is one that the rule names. */
export type ValueMatcher = (text: string, variables: Variables) => boolean

/** The shape of a value in a rule: a name, a glob, `any`, or a list of names and globs; a list without entries is none. */
export const valueSchema = z.union([z.string().min(1), z.array(z.string().min(1))]).describe('a name, a glob with * and ?, a list of them, or any')

/**
 * The matcher of one value as rules write it: a name, a glob, with templates, a list of those (empty: nothing), or `any` (alone,
 * not in a list). What a template brings is plain text, never a pattern. Throws ChaperoneError('invalid_document').
 */
export function valueMatcher(value: string | readonly string[]): ValueMatcher {
  if (value === 'any') return () => true
  if (typeof value === 'string') return one(value)
  if (!Array.isArray(value) || value.some((item) => typeof item !== 'string')) {
    throw new ChaperoneError('invalid_document', 'A value is a text or a list of texts.', { fix: 'Write a name, a glob, a list of them, or any.' })
  }
  if (value.includes('any'))
    throw new ChaperoneError('invalid_document', '`any` cannot be an entry of a list.', { fix: 'Write any alone, or name the entries.' })
  const names = new Set<string>()
  const others: ValueMatcher[] = []
  for (const item of value as readonly string[]) {
    const matcher = one(item)
    if (isGlob(item) || hasTemplate(item)) others.push(matcher)
    else names.add(item)
  }
  if (others.length === 0) return (text) => names.has(text)
  return (text, variables) => {
    if (names.has(text)) return true
    for (const matches of others) if (matches(text, variables)) return true
    return false
  }
}

function one(text: string): ValueMatcher {
  if (hasTemplate(text)) return templated(text)
  assertPattern(text)
  if (!isGlob(text)) return (given) => given === text
  return compileGlob(text)
}

function templated(text: string): ValueMatcher {
  const pieces = parseTemplate(text)
  const globs = pieces.map((piece): readonly GlobPart[] | undefined => (typeof piece === 'string' ? parseGlob(piece) : undefined))
  return (given, variables) =>
    fill(pieces, variables).some((reading) =>
      matchGlob(
        reading.flatMap((literal, i) => globs[i] ?? [{ literal }]),
        given,
      ),
    )
}
