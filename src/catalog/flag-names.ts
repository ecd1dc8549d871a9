import { type Flag, flag } from './flag-types.ts'

/** Letters that look like Latin ones (the part of Unicode's confusables.txt that a name of a tool can be forged with). */
const LOOK_ALIKE: ReadonlyMap<string, string> = new Map(
  [
    ['аɑα', 'a'],
    ['ьЬв', 'b'],
    ['сϲᴄ', 'c'],
    ['ԁ', 'd'],
    ['еєҽ', 'e'],
    ['ɡց', 'g'],
    ['һհ', 'h'],
    ['іιıӏ', 'i'],
    ['јϳ', 'j'],
    ['кκ', 'k'],
    ['ⅼ', 'l'],
    ['м', 'm'],
    ['ոп', 'n'],
    ['оοօσ', 'o'],
    ['рρ', 'p'],
    ['ԛ', 'q'],
    ['г', 'r'],
    ['ѕ', 's'],
    ['тτ', 't'],
    ['υսц', 'u'],
    ['νѵ', 'v'],
    ['ԝѡω', 'w'],
    ['хχ', 'x'],
    ['уγү', 'y'],
    ['ᴢ', 'z'],
  ].flatMap(([from = '', to = '']) => [...from].map((letter) => [letter, to] as const)),
)

/** The text in lower case, in its compatibility form, with look-alikes as the Latin letters that they look like. */
export function skeleton(text: string): string {
  const folded = text.normalize('NFKC').toLowerCase()
  // Nearly all text is ASCII already.
  if (/^[\u0000-\u007f]*$/.test(folded)) return folded
  let out = ''
  for (const letter of folded) out += LOOK_ALIKE.get(letter) ?? letter
  return out
}

/** What a person at a glance, or a client that maps names, takes for one name. */
const glance = (name: string) =>
  skeleton(name)
    .replaceAll('rn', 'm')
    .replace(/[1|!i]/g, 'l')
    .replaceAll('0', 'o')
    .replace(/[-_. ]/g, '_')

const SCRIPTS = [
  'Latin',
  'Cyrillic',
  'Greek',
  'Armenian',
  'Hebrew',
  'Arabic',
  'Cherokee',
  'Georgian',
  'Han',
  'Hiragana',
  'Katakana',
  'Hangul',
  'Thai',
].map((name) => ({ name, of: new RegExp(`\\p{Script=${name}}`, 'u') }))

/** Flags of one name: of a tool, a prompt, an argument. `strict` names are what the standard allows for tools. */
export function flagsOfName(name: string, where: string, strict: boolean): readonly Flag[] {
  const found: Flag[] = []
  const scripts = SCRIPTS.filter(({ of }) => of.test(name)).map((script) => script.name)
  // Japanese is written in three scripts at once.
  const writing = new Set(scripts.map((script) => (['Han', 'Hiragana', 'Katakana'].includes(script) ? 'Japanese' : script)))
  if (writing.size > 1) found.push(flag('mixed_scripts', where, `${name} (${scripts.join(', ')})`))
  if (strict && !/^[A-Za-z0-9_.-]{1,128}$/.test(name)) found.push(flag('odd_name', where, name === '' ? '(empty)' : name))
  return found
}

/** Names, each with a name that it can be taken for: the same in another case, or to the eye. Exact doubles too. */
export function collisions(names: readonly string[]): ReadonlyMap<string, string> {
  const seen = new Map<string, string>()
  const found = new Map<string, string>()
  for (const name of names) {
    const key = glance(name)
    const before = seen.get(key)
    if (before === undefined) seen.set(key, name)
    else {
      found.set(name, before)
      if (!found.has(before)) found.set(before, name)
    }
  }
  return found
}
