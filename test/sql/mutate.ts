import type { Random } from './random.ts'

const TOKEN = /\s+|--[^\n]*\n?|\/\*[\s\S]*?\*\/|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$\w*\$|[A-Za-z_][\w$]*|\d+(?:\.\d+)?|::|[<>=!~@#%^&|?*+/-]+|[\s\S]/g

const COMMENTS = ['/**/', '/* a /* nested */ b */', '-- x\n', '/* select */', '/*! insert */']
const SPACES = [' ', '\n', '\t', '\r', '\f', '\v', '\u00a0', '\u2028', '\u0085']
const WORDS = [
  'delete from app.log',
  'returning *',
  'for update',
  'into evil_copy',
  'app.wrote(1)',
  '::app.evil_domain',
  ';',
  'analyze',
  'operator(public.=)',
  'lateral',
  'with hold',
  ')',
  '(',
  ',',
  '*',
  'as',
  'union all',
  'null',
  '$1',
  "nextval('app.counter')",
]

/** Another text out of one or two that are known: tokens dropped, doubled, swapped, taken from the other, written in another way. */
export function mutate(text: string, other: string, random: Random): string {
  const tokens = text.match(TOKEN) ?? [text]
  const donor = other.match(TOKEN) ?? [other]
  for (let left = 1 + random.below(3); left > 0; left--) {
    const at = random.below(tokens.length)
    const token = tokens[at]!
    random.oneOf<unknown>(
      () => tokens.splice(at, 1 + random.below(2)),
      () => tokens.splice(at, 0, token),
      () => tokens.splice(at, 1, random.pick(donor)),
      () => {
        const from = random.below(donor.length)
        tokens.splice(at, random.below(2), ' ', ...donor.slice(from, from + 1 + random.below(8)), ' ')
      },
      () => tokens.splice(at, 0, ` ${random.pick(WORDS)} `),
      () => tokens.splice(at, 0, random.pick(COMMENTS)),
      () => tokens.splice(at, 0, random.pick(SPACES)),
      () => tokens.splice(at, 1, rewritten(token, random)),
    )
    if (tokens.length === 0) return other
  }
  return tokens.join('')
}

/** The same word in another spelling, or nearly. */
function rewritten(token: string, random: Random): string {
  if (/^[A-Za-z_]/.test(token)) {
    return random.oneOf(
      () => token.toUpperCase(),
      () => `"${token}"`,
      () => `U&"${[...token].map((letter) => `\\${letter.codePointAt(0)!.toString(16).padStart(4, '0')}`).join('')}"`,
      () => `app.${token}`,
      () => `pg_catalog.${token}`,
      () => `${token}()`,
    )
  }
  if (token.startsWith("'")) {
    return random.oneOf(
      () => `E${token}`,
      () => `U&${token}`,
      () => `$$${token.slice(1, -1)}$$`,
      () => `N${token}`,
      () => token.replace(/'$/, "\\'"),
      () => `'\\', '${token}`,
    )
  }
  return random.pick([token + token, ` ${token} `, '-', ''])
}
