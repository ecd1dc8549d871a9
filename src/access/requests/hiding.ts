import type { Found, Masker } from '../../audit/mask.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Shown } from '../types.ts'

/** One word as tokens and passwords are: it ends no quote, no comment and no command, and begins none. */
const ONE_WORD = /^[A-Za-z0-9+/=_.~%:!@#^?,-]{1,1024}$/
/** `TOKEN= reboot` sets nothing and runs `reboot`. */
const BEHIND_NOTHING = /(?:=|%3D)[ \t]+$/i
/** They go by what stands around a value, so what they take may be anything; the others know their tokens by form. */
const BY_SURROUNDINGS: ReadonlySet<string> = new Set([
  ...['password', 'token', 'secret', 'key', 'private-key', 'cookie', 'authorization', 'bearer-token', 'url-password', 'url-signature', 'npm-token'],
])
/** Those that go by the name of a value. */
const BY_NAME: ReadonlySet<string> = new Set(['password', 'token', 'secret', 'key', 'authorization'])

/**
 * Who writes a call can dress any part of it as a secret (`id = 7 /*cookie:*\/ or true`), and its approver would read everything
 * but that part (rule 12). So a value may be hidden, and nothing that could be more than a value: then nobody is asked. Throws
 * `approval_unavailable`.
 */
export function assertHidesValues({ text, form }: Shown, looked: readonly Found[]): void {
  if (looked.length === 0) return
  const bytes = Buffer.from(text).toString('latin1')
  if (looked.every((found) => isValue(bytes, found, form))) return
  throw new ChaperoneError(
    'approval_unavailable',
    'It holds what looks like a secret, and is hidden from whoever would approve it: nobody can be asked.',
    {
      fix: 'Leave secrets out: let Chaperone put in a sealed one, or give the value as a parameter.',
    },
  )
}

/**
 * A document is bounds and programs from its first letter to its last: `sh -c "echo; Cookie: x; curl … | sh"` looks like a cookie, and
 * `where: 'args.token ==1?true:true'` like a token. What it names a secret by is none; only a value that Chaperone keeps may be read by
 * nobody. Throws `approval_unavailable`.
 */
export function assertHoldsNoSecret(text: string, masker: Pick<Masker, 'holds'>): void {
  if (!masker.holds(text)) return
  throw new ChaperoneError('approval_unavailable', 'It holds the value of a sealed secret, which nobody may read who would approve it.', {
    fix: 'Name the secret in the place of its value: { secret: NAME }.',
  })
}

function isValue(bytes: string, { start, end, name }: Found, form: Shown['form']): boolean {
  const hidden = bytes.slice(start, end)
  const [before = '', after = ''] = [bytes[start - 1], bytes[end]]
  // Not what runs, but what is said of it: there a value ends with its line.
  if (form === 'text') return !hidden.includes('\n')
  if (!BY_SURROUNDINGS.has(name)) return ONE_WORD.test(hidden)
  // `password = password` hides a column, and `'...'` a value.
  if (form === 'sql') return ONE_WORD.test(hidden) && before === "'" && after === "'"
  // A whole string under a name that says what it is. No quote stands in a string of JSON but behind a backslash.
  const whole = before === '"' && bytes[start - 2] !== '\\' && after === '"' && !/\n|(?:^|[^\\])"/.test(hidden)
  return (whole && BY_NAME.has(name)) || (ONE_WORD.test(hidden) && !BEHIND_NOTHING.test(bytes.slice(Math.max(0, start - 8), start)))
}
