import { shellWord } from '../../encoding/shell-word.ts'
import { secretKind } from '../importing/secrets.ts'
import type { Finding } from './finding.ts'

/** A database of the catalog: name in it -> `host:port`. */
export type Databases = ReadonlyMap<string, string>

/** Ours, and what only names a place where a secret is. */
const NONE = /^CHAPERONE_|_(?:SOCK|PATH|FILE|DIR|HOME|URL_BASE|ID)$/i
const SHORTEST = 8

/**
 * Variables that hold a secret: whatever starts from here has them, an agent as well. The value is looked at and not shown. Pure.
 */
export function environmentDoors(env: NodeJS.ProcessEnv, databases: Databases): readonly Finding[] {
  return Object.entries(env).flatMap(([name, value = '']): Finding[] => {
    if (NONE.test(name) || value.length < SHORTEST || /^[./~]/.test(value) || /^\d+$/.test(value)) return []
    const around = URL.canParse(value) && new URL(value).password !== '' ? databaseAt(databases, new URL(value).host) : undefined
    const kind = secretKind(name, value) ?? (around === undefined ? undefined : 'a password')
    if (kind === undefined) return []
    const to = around === undefined ? '' : `, which goes around Chaperone to postgres/${around}`
    return [
      {
        what: 'environment',
        where: name,
        state: 'open',
        says: `every program that is started from here gets a secret in ${name} (${kind})${to}`,
        fix: `unset ${name}, and take it out of where it is set (~/.profile, ~/.bashrc, ~/.zshenv, .env); a program that needs it gets it from Chaperone: chaperone run -- PROGRAM`,
      },
    ]
  })
}

/** The lines of a password file of PostgreSQL (`host:port:database:user:password`) that are for a database of the catalog. Pure. */
export function pgpassDoors(file: string, text: string, databases: Databases): readonly Finding[] {
  return text.split('\n').flatMap((line, at): Finding[] => {
    if (line.startsWith('#')) return []
    const [host, port, , user, password] = fieldsOf(line)
    if (password === undefined || password === '') return []
    return [...databases]
      .filter(([, address]) => {
        const [name, own] = parted(address)
        return (host === '*' || host === name) && (port === '*' || port === own)
      })
      .map(([name, address]) => ({
        what: file,
        where: address,
        state: 'open' as const,
        says: `line ${at + 1} holds a password of ${user === '*' ? 'every user' : user} for postgres/${name}, which goes around Chaperone`,
        fix: `sed -i '${at + 1}d' ${shellWord(file)}, and at the server: ALTER ROLE ${user === '*' ? 'NAME' : user} PASSWORD NULL. See: chaperone db setup ${name}`,
      }))
  })
}

/** A colon or a backslash in a field stands behind a backslash. */
function fieldsOf(line: string): readonly string[] {
  const fields = ['']
  for (let at = 0; at < line.length; at++) {
    const letter = line[at]!
    if (letter === '\\' && at + 1 < line.length) fields[fields.length - 1] += line[++at]!
    else if (letter === ':' && fields.length < 5) fields.push('')
    else fields[fields.length - 1] += letter
  }
  return fields
}

const DEFAULT_PORT = '5432'

function parted(address: string): readonly [host: string, port: string] {
  const [, host = address, port = DEFAULT_PORT] = /^\[?(.*?)\]?(?::(\d+))?$/.exec(address) ?? []
  return [host, port]
}

function databaseAt(databases: Databases, host: string): string | undefined {
  const wanted = parted(host).join(' ')
  return [...databases].find(([, address]) => parted(address).join(' ') === wanted)?.[0]
}
