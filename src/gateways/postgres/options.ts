import { ChaperoneError } from '../../errors.ts'

const refused = (why: string, fix = 'Write every setting as `-c name=value`.') =>
  new ChaperoneError('unsupported', `The startup parameter "options" is not accepted: ${why}.`, { fix })

/**
 * The startup parameter `options`, read as the server reads it: words split at white space, a backslash before a character
 * takes it as it is (pg_split_opts of postinit.c), then `-c name=value`, `-cname=value` and `--name=value` with dashes in
 * the name for underscores (process_postgres_switches, ParseLongOption). Every other switch is refused. Names in lower case.
 */
export function readOptions(options: string): readonly (readonly [name: string, value: string])[] {
  const words = split(options)
  const settings: (readonly [string, string])[] = []
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!
    // getopt ends at a lone `--`, and the server then takes what follows for a database name.
    const said =
      word === '-c' ? words[++i] : word.startsWith('-c') ? word.slice(2) : word.startsWith('--') && word !== '--' ? word.slice(2) : undefined
    if (said === undefined)
      throw refused(word === '-c' ? 'a `-c` has no setting' : `the switch ${JSON.stringify(word.slice(0, 63))} does something else`)
    const equals = said.indexOf('=')
    if (equals < 1) throw refused(`${JSON.stringify(said.slice(0, 63))} is not name=value`)
    settings.push([said.slice(0, equals).replaceAll('-', '_').toLowerCase(), said.slice(equals + 1)])
  }
  return settings
}

/** isspace() of the C locale. */
const SPACE = /[ \t\n\v\f\r]/

function split(options: string): readonly string[] {
  const words: string[] = []
  let word = ''
  let inside = false
  for (let i = 0; i < options.length; i++) {
    const character = options[i]!
    if (character === '\\' && i + 1 < options.length) {
      word += options[++i]
      inside = true
    } else if (character === '\\') {
      // At the very end it stands for nothing.
      inside = true
    } else if (!SPACE.test(character)) {
      word += character
      inside = true
    } else if (inside) {
      words.push(word)
      word = ''
      inside = false
    }
  }
  if (inside) words.push(word)
  return words
}
