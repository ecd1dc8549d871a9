import { shellWord } from '../../encoding/shell-word.ts'
import { reached } from '../config/entries.ts'
import type { FoundServer } from '../importing/find.ts'
import type { Finding } from './finding.ts'

/**
 * The entries of client files that do not go through Chaperone, and the secrets that lie about in them. `upstreams`: what
 * the catalog reaches, by its address or its command (`normal`, `asCommand`) -> its name there.
 */
export function fileDoors(servers: readonly FoundServer[], upstreams: ReadonlyMap<string, string>): readonly Finding[] {
  return servers.flatMap(({ source, name, value, ours, secrets, copy }): Finding[] => {
    const base = { what: source.file, where: name }
    const places = secrets.map(({ where }) => where).join(', ')
    if (copy) {
      if (secrets.length === 0) return []
      return [{ ...base, state: 'open', says: `an old copy still holds secrets: ${places}`, fix: `rm ${shellWord(source.file)}` }]
    }
    if (ours) return []
    const { url, command } = reached(value)
    const around = url !== undefined ? upstreams.get(normal(url)) : command && upstreams.get(asCommand(command))
    const says = around === undefined ? `${source.client} reaches it without Chaperone` : `${source.client} goes around Chaperone to mcp/${around}`
    const fix =
      around === undefined
        ? `chaperone mcp import ${quoted(name)}`
        : `chaperone mcp config ${source.client} ${around}, and take ${name} out of the file`
    return [{ ...base, state: 'open', says: secrets.length === 0 ? says : `${says}, with secrets in the file: ${places}`, fix }]
  })
}

const quoted = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]+/g, '-')

/** A command as a key; no address looks like it. */
export const asCommand = (words: readonly string[]): string => words.join('\0')

export function normal(url: string): string {
  if (!URL.canParse(url)) return url
  const { origin, pathname } = new URL(url)
  return `${origin}${pathname.replace(/\/+$/, '')}`
}
