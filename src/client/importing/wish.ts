import type { ServerWish } from '../../api/mcp-contract.ts'
import { reached } from '../config/entries.ts'
import { bridgeOf, envOf, hasHelper, headersOf, secretKind, secretsIn } from './secrets.ts'

/** What an entry of a client's file would be in the catalog. */
export interface Wish {
  readonly wish: ServerWish
  /** name in the vault -> value */
  readonly secrets: ReadonlyMap<string, string>
  /** what is worth knowing before it is brought along */
  readonly notes: readonly string[]
}

export interface Cannot {
  readonly cannot: string
}

const NAME = /[^a-z0-9]+/g

export const catalogName = (name: string): string =>
  name
    .toLowerCase()
    .replace(NAME, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 40) || 'server'
const secretName = (server: string, key: string): string => `mcp/${server}/${catalogName(key)}`.slice(0, 64)

/** The document that an entry would be; or why it cannot be one. `here` is what this computer knows: its environment. Pure. */
export function wishOf(
  name: string,
  value: unknown,
  here: { readonly env: NodeJS.ProcessEnv; readonly exists: (path: string) => boolean },
): Wish | Cannot {
  const { command, url } = reached(value)
  const stuck = secretsIn(value).filter(({ movable }) => !movable)
  if (stuck.length > 0)
    return { cannot: `a secret stands where no document can take it from the vault: ${stuck.map(({ where }) => where).join(', ')}` }
  if (hasHelper(value)) return { cannot: 'a command that only its client runs makes its headers (headersHelper)' }
  const secrets = new Map<string, string>()
  const unknown: string[] = []
  /** names of variables whose values are secrets, in the text that was filled last */
  let open: string[] = []
  const env = new Map(envOf(value))
  const filled = (text: string): { readonly text: string; readonly foreign: boolean } => {
    let foreign = false
    open = []
    const out = text.replace(
      /\$\{(?:env:)?([A-Za-z_]\w*)(?::-([^}]*))?\}|\$\{(input:[^}]+)\}/g,
      (whole, key: string | undefined, other: string | undefined) => {
        const known = key === undefined ? undefined : (env.get(key) ?? here.env[key] ?? other)
        if (known === undefined) unknown.push(whole)
        else {
          foreign = true
          if (secretKind(key!, known) !== undefined) open.push(key!)
        }
        return known ?? whole
      },
    )
    return { text: out, foreign }
  }
  const kept = (pairs: readonly (readonly [string, string])[]) =>
    Object.fromEntries(
      pairs.map(([key, written]) => {
        const { text, foreign } = filled(written)
        // What stood elsewhere was kept apart for a reason.
        if (!foreign && secretKind(key, text) === undefined) return [key, text]
        const sealed = secretName(name, key)
        secrets.set(sealed, text)
        return [key, { secret: sealed }]
      }),
    )
  const bridge = bridgeOf(command)
  const address = bridge?.url ?? url
  const notes: string[] = []
  let spec: Record<string, unknown>
  if (address !== undefined) {
    if (!/^https?:\/\//i.test(address) || !URL.canParse(address)) return { cannot: 'its address is not http or https' }
    const headers = kept(bridge ? bridge.headers : headersOf(value))
    spec = { url: address, ...(Object.keys(headers).length > 0 ? { headers } : {}) }
    if (bridge) notes.push('mcp-remote is left out: Chaperone reaches the address itself')
    if (Object.keys(headers).length === 0) notes.push('if it wants a sign-in (OAuth), add it with: chaperone mcp add URL --oauth each')
  } else if (command !== undefined) {
    const words: string[] = []
    for (const [i, word] of command.entries()) {
      const { text } = filled(word)
      // A document takes no word from the vault: what a client puts there itself would stand in it for everybody who reads it.
      if (open.length > 0)
        return {
          cannot: `a secret would stand where no document can take it from the vault: ${open.join(', ')} in ${i === 0 ? 'its command' : `args[${i - 1}]`}`,
        }
      words.push(text)
    }
    const opened = secretsIn({ command: words[0], args: words.slice(1) }).map(({ where }) => where)
    if (opened.length > 0) return { cannot: `a secret would stand where no document can take it from the vault: ${opened.join(', ')}` }
    const own = kept([...env])
    spec = { command: words, ...(Object.keys(own).length > 0 ? { env: own } : {}) }
    notes.push('it will run at the Chaperone server, not on this computer')
    const local = words.filter((word) => /^(?:[/~]|[A-Za-z]:\\)/.test(word) && here.exists(word))
    if (local.length > 0) notes.push(`it names what is on this computer: ${local.join(', ')}`)
    const { cwd } = value as { readonly cwd?: unknown }
    if (typeof cwd === 'string') notes.push(`its client starts it in ${cwd}, Chaperone in a folder of its own`)
  } else return { cannot: 'it has neither a command nor an address' }
  if (unknown.length > 0) return { cannot: `only its client knows ${[...new Set(unknown)].join(', ')}` }
  return { wish: { name, spec }, secrets, notes }
}
