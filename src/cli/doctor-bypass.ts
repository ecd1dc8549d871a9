import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { Document, Explained } from '../api/contract.ts'
import type { McpServerSpec } from '../catalog/mcp-server.ts'
import type { PostgresDatabaseSpec } from '../catalog/postgres-database.ts'
import type { Api } from '../client/api.ts'
import type { Finding } from '../client/bypass/finding.ts'
import { REASONS, toChaperoneError } from '../errors.ts'
import { collect, type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { webIfKnown } from './mcp-config.ts'
import { line, printable, printJson, say, styled } from './output.ts'

interface Flags extends ServerFlags {
  readonly project?: readonly string[]
  readonly json?: boolean
}

export function bypass(command: Command): void {
  withJson(
    withServer(command.command('bypass').description('try what Chaperone guards without Chaperone, from here, and list every door that is open')),
  )
    .option('--project <folder>', "also this project's client files; may be repeated; default: this folder", collect)
    .addHelpText(
      'after',
      '\nTried are the addresses of the catalog (as far as you may read it: verb apply) the files of MCP clients on this computer, the variables of this terminal, and the password file of PostgreSQL.\nNothing secret is sent or shown. Exit code 8 when a door is open.\n\nExamples:\n  chaperone doctor bypass\n  chaperone doctor bypass --json --project ~/src/shop',
    )
    // `doctor` itself has some of these options, and Commander gives them to it.
    .action((_: Flags, command: Command) => run(command.optsWithGlobals<Flags>()))
}

async function run(flags: Flags): Promise<void> {
  const { PROBE, eachOf } = await import('../client/bypass/finding.ts')
  const { tryMcp } = await import('../client/bypass/mcp-door.ts')
  const { tryPostgres } = await import('../client/bypass/postgres-door.ts')
  const { asCommand, fileDoors, normal } = await import('../client/bypass/file-doors.ts')
  const { findServers } = await import('../client/importing/find.ts')
  const { thisPlace } = await import('../client/config/places.ts')
  const documents = await catalog(flags)
  const tries: (() => Promise<Finding>)[] = []
  const upstreams = new Map<string, string>()
  const addresses = new Map<string, string>()
  for (const { kind, name, spec } of documents) {
    if (kind === 'mcp') {
      const { url, command } = spec as McpServerSpec
      if (command !== undefined) upstreams.set(asCommand(command), name)
      if (url === undefined) continue
      upstreams.set(normal(url), name)
      tries.push(() => tryMcp(name, url))
    } else {
      const { address, databases, users } = spec as PostgresDatabaseSpec
      addresses.set(name, address)
      // Every server has this one, and it may do everything.
      tries.push(() => tryPostgres(name, { address, database: databases[0]!, users: [...new Set([...(users ?? []).slice(0, 8), 'postgres'])] }))
    }
  }
  if (tries.length > PROBE.most) say(`only the first ${PROBE.most} of ${tries.length} addresses are tried`)
  const tried = await eachOf(tries.slice(0, PROBE.most), (one) => one())
  const projects = (flags.project ?? ['.']).map((folder) => resolve(folder))
  const found = await findServers(thisPlace(), projects, await webIfKnown(flags))
  for (const { file, message } of found.faults) say(`${file} was not looked at: ${message}`)
  const { environmentDoors } = await import('../client/bypass/password-doors.ts')
  conclude([...tried, ...fileDoors(found.servers, upstreams), ...environmentDoors(process.env, addresses), ...(await passwords(addresses))], flags)
}

/** Passwords that `psql` and every library of PostgreSQL would find by themselves. */
async function passwords(databases: ReadonlyMap<string, string>): Promise<readonly Finding[]> {
  const { homedir } = await import('node:os')
  const { join } = await import('node:path')
  const { readFile } = await import('node:fs/promises')
  const { pgpassDoors } = await import('../client/bypass/password-doors.ts')
  const windows = process.platform === 'win32'
  const usual = windows ? join(process.env.APPDATA ?? homedir(), 'postgresql', 'pgpass.conf') : join(homedir(), '.pgpass')
  const file = process.env.PGPASSFILE || usual
  try {
    return pgpassDoors(file, await readFile(file, 'utf8'), databases)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ENOTDIR') say(`${file} was not looked at: ${code ?? error}`)
    return []
  }
}

/** What of the catalog he may read; nothing where he may not, and it is said. */
async function catalog(flags: Flags): Promise<readonly Document[]> {
  try {
    return await withApi(flags, async (api: Api) => {
      // Asked beforehand: to look without the right to is a refusal, and stands in the record as one.
      if ((await api.call<Explained>('POST', '/v1/explain', { kind: 'chaperone', verb: 'apply' })).verdict !== 'allow') {
        say('addresses of the catalog are not tried: that needs the verb apply')
        return []
      }
      const kinds = ['mcp', 'postgres'].map((kind) => api.call<{ documents: Document[] }>('GET', `/v1/documents?kind=${kind}`))
      return (await Promise.all(kinds)).flatMap(({ documents }) => documents)
    })
  } catch (cause) {
    const error = toChaperoneError(cause)
    if (REASONS[error.code].exit !== 4) throw cause
    say(`addresses of the catalog are not tried: ${error.message}`)
    return []
  }
}

const MARKS = { open: ['red', 'open   '], guarded: ['yellow', 'guarded'], unclear: ['yellow', 'unclear'], closed: ['green', 'closed '] } as const
const ORDER = ['open', 'unclear', 'guarded', 'closed'] as const

function conclude(findings: readonly Finding[], flags: Flags): void {
  const open = findings.filter(({ state }) => state === 'open').length
  if (open > 0) process.exitCode = REASONS.unavailable_here.exit
  if (flags.json) printJson(findings)
  else show(findings, open)
}

function show(findings: readonly Finding[], open: number): void {
  for (const { what, where, state, says, fix } of [...findings].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state))) {
    const [colour, mark] = MARKS[state]
    line(`${styled(colour, mark)}  ${printable(what)}  ${printable(where)}`)
    line(`         ${printable(says)}`)
    if (fix !== undefined) line(`         ${printable(fix)}`)
  }
  line(findings.length === 0 ? 'There was nothing to try.' : `${open} of ${findings.length} ${findings.length === 1 ? 'door is' : 'doors are'} open.`)
}
