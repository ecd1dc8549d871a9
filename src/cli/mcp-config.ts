import type { Command } from 'commander'
import type { Edited } from '../client/config/file.ts'
import { CLIENTS, type Client, type Entry } from '../client/config/types.ts'
import type { Profile } from '../client/profile.ts'
import { ChaperoneError } from '../errors.ts'
import { profileFor, profileIfKnown, type ServerFlags, withJson, withServer } from './connection.ts'
import { line, printable, printJson, say } from './output.ts'
import { sayUnknownServers, visibleResources } from './resources.ts'

export interface ConfigFlags extends ServerFlags {
  readonly all?: boolean
  readonly one?: boolean
  readonly url?: boolean
  readonly profile?: string
  readonly print?: boolean
  readonly link?: boolean
  readonly remove?: boolean
  readonly replace?: boolean
  readonly project?: boolean
  readonly file?: string
  readonly command?: string
  readonly json?: boolean
}

export function config(command: Command): void {
  withJson(withServer(command.command('config').description('make a client use Chaperone: edit its file, or say what to click')))
    .argument('<client>', CLIENTS.join(', '))
    .argument('[names...]', 'MCP servers; default: all that `mcp ls` lists')
    .option('--all', 'all that `mcp ls` lists, one entry each (the default)')
    .option('--one', 'one entry, `chaperone`, for all servers that you may use, now and later')
    .option('--url', 'the client speaks HTTP to Chaperone itself, and signs in there; default: it starts `chaperone mcp connect`')
    .option('--profile <name>', 'what the client gets of your rights, as a profile says')
    .option('--print', 'print what would be written, and write nothing')
    .option('--link', 'print a link that installs it when it is opened (cursor, vscode)')
    .option('--remove', 'take the entries out again')
    .option('--replace', 'also where an entry of that name does not go through Chaperone')
    .option('--project', "the file of the project in this folder, not the user's")
    .option('--file <path>', 'another file than the usual one')
    .option('--command <path>', 'how the client starts Chaperone; default: this very installation')
    .addHelpText(
      'after',
      '\nExamples:\n  chaperone mcp config claude-code\n  chaperone mcp config cursor github files --profile reading\n  chaperone mcp config vscode --one --url --link\n  chaperone mcp config codex --remove\n  chaperone mcp config claude-code --json',
    )
    .action((client: string, names: string[], flags: ConfigFlags) => run(clientNamed(client), names, flags))
}

export function clientNamed(client: string): Client {
  if ((CLIENTS as readonly string[]).includes(client)) return client as Client
  throw new ChaperoneError('usage', `${client} is not known.`, { fix: `Write one of ${CLIENTS.join(', ')}.` })
}

const exclusive = (flags: Readonly<Record<string, unknown>>, ...names: string[]): void => {
  const given = names.filter((name) => flags[name] !== undefined && flags[name] !== false)
  if (given.length > 1) throw new ChaperoneError('usage', `--${given[0]} and --${given[1]} do not go together.`)
}

async function run(client: Client, names: readonly string[], flags: ConfigFlags): Promise<void> {
  const given = flags as Readonly<Record<string, unknown>>
  exclusive(given, 'print', 'link', 'remove')
  exclusive(given, 'print', 'json')
  exclusive(given, 'all', 'one')
  exclusive(given, 'url', 'profile')
  exclusive(given, 'url', 'command')
  exclusive(given, 'file', 'project')
  if (names.length > 0 && (flags.one || flags.all))
    throw new ChaperoneError('usage', `${flags.one ? '--one' : '--all'} is for all servers.`, { fix: 'Leave the names out, or leave it out.' })
  if (flags.remove) return remove(client, names, flags)
  const { FORMS } = await import('../client/config/forms.ts')
  const form = FORMS[client]
  // What has no file can only be told a URL.
  const entries = await entriesFor(client, names, form.file || flags.file !== undefined ? flags : { ...flags, url: true })
  if (flags.link) return links(client, entries, flags)
  if (form.callsFrom !== undefined) {
    const { assertPublic } = await import('../client/config/public.ts')
    for (const entry of entries) if ('url' in entry) assertPublic(form, entry)
  }
  const clicks = entries.map((entry) => form.clicks?.(entry)).filter((steps) => steps !== undefined)
  if (clicks.length > 0) return flags.json ? printJson({ steps: clicks }) : line(clicks.map(stepsText).join('\n\n'))
  if (flags.print) {
    const { configText } = await import('../client/config/forms.ts')
    return void process.stdout.write(configText(client, '', entries))
  }
  await write(client, entries, flags)
}

const stepsText = (steps: readonly string[]): string => steps.map((step, at) => `${String(at + 1).padStart(2)}. ${printable(step)}`).join('\n')

/** Whoever may see none has added none yet, or has no role that names one: an administrator has no rights at servers by being one. */
export const NO_SERVER =
  'An administrator adds one (chaperone mcp add -- COMMAND or URL) and gives you a role that names it; yours: chaperone whoami.'

/** The entries for the servers that are named, or for all that one may see. */
async function entriesFor(client: Client, names: readonly string[], flags: ConfigFlags): Promise<readonly Entry[]> {
  const { entryFor } = await import('../client/config/entries.ts')
  const way = {
    ...(flags.command === undefined ? {} : { command: flags.command }),
    ...(flags.server === undefined ? {} : { server: flags.server }),
    ...(flags.profile === undefined ? {} : { profile: flags.profile }),
    ...(flags.url ? { web: await webOf(flags) } : {}),
    ...(process.env.CHAPERONE_HOME ? { home: process.env.CHAPERONE_HOME } : {}),
  }
  if (flags.one) return [entryFor(client, undefined, way)]
  if (names.length > 0) await sayUnknownServers(names, flags)
  const servers = names.length > 0 ? names : (await visibleResources(flags, 'mcp')).map((row) => row.name)
  if (servers.length === 0) throw new ChaperoneError('not_found', 'There is no MCP server that you may see.', { fix: NO_SERVER })
  return servers.map((name) => entryFor(client, name, way))
}

/** `https://host:port` of the web listener of the server that is signed in to. */
export const webOf = async (flags: ServerFlags): Promise<string> => webAt(await profileFor(flags))

/** The same, where what is there can be looked at without it: undefined when nobody is signed in. */
export async function webIfKnown(flags: ServerFlags): Promise<string | undefined> {
  const profile = await profileIfKnown(flags)
  return profile && webAt(profile)
}

async function webAt(profile: Profile): Promise<string> {
  const { listenerOf } = await import('../client/profile.ts')
  const { host, port } = listenerOf(profile, 'web')
  const name = host.includes(':') ? `[${host}]` : host
  return `https://${name}${port === 443 ? '' : `:${port}`}`
}

const MANY = 20

const namesText = (names: readonly string[]): string =>
  names.length <= MANY ? names.join(', ') : `${names.slice(0, 3).join(', ')} and ${names.length - 3} more`

async function links(client: Client, entries: readonly Entry[], flags: ConfigFlags): Promise<void> {
  const { FORMS } = await import('../client/config/forms.ts')
  const { link, title } = FORMS[client]
  if (!link)
    throw new ChaperoneError('unsupported', `${title} has no links that install a server.`, {
      fix: client === 'claude-desktop' ? 'It has bundles: chaperone mcp bundle' : `Leave --link out: chaperone mcp config ${client}`,
    })
  if (flags.json) return printJson({ links: entries.map((entry) => ({ name: entry.name, link: link(entry) })) })
  for (const entry of entries) line(link(entry))
}

async function fileFor(client: Client, flags: ConfigFlags): Promise<{ readonly file: string; readonly project?: string }> {
  if (flags.file !== undefined) return { file: flags.file }
  const { FORMS, configFile } = await import('../client/config/forms.ts')
  if (flags.project) {
    const { project, title } = FORMS[client]
    if (project === undefined) throw new ChaperoneError('unsupported', `${title} has no file in a project.`, { fix: 'Leave --project out.' })
    const { resolve } = await import('node:path')
    return { file: resolve(project), project: process.cwd() }
  }
  const file = configFile(client)
  if (file === undefined) throw new ChaperoneError('unsupported', `${FORMS[client].title} has no file on this computer.`)
  return { file }
}

/** `servers`: the entries that were written, or taken out. */
const asData = ({ file, changed, backup, notes }: Edited, servers: readonly string[]) => ({ file, changed, servers, backup: backup ?? null, notes })

function sayKept({ backup, notes }: Edited): void {
  if (backup !== undefined) say(`as it was before: ${backup}`)
  for (const note of notes) say(note)
}

async function write(client: Client, entries: readonly Entry[], flags: ConfigFlags): Promise<void> {
  const { FORMS, configText } = await import('../client/config/forms.ts')
  const { editClientFile } = await import('../client/config/file.ts')
  const { isOurs } = await import('../client/config/entries.ts')
  const form = FORMS[client]
  const { file: path, project } = await fileFor(client, flags)
  const web = await webIfKnown(flags)
  const edited = await editClientFile(
    path,
    (text) => {
      if (!flags.replace) {
        const there = new Map(form.format.list(text).map(({ at, name, value }) => [at.length > 2 ? '' : name, value]))
        const foreign = entries.find(({ name }) => there.has(name) && !isOurs(there.get(name), web))
        if (foreign)
          throw new ChaperoneError('conflict', `${path} has a server ${foreign.name} already, which does not go through Chaperone.`, {
            fix: `Say --replace to put this in its place; or bring it along with what it needs: chaperone mcp import`,
          })
      }
      return configText(client, text, entries)
    },
    project === undefined ? {} : { project },
  )
  if (flags.json)
    return printJson(
      asData(
        edited,
        entries.map(({ name }) => name),
      ),
    )
  if (!edited.changed) return line(`${edited.file} has it already.`)
  line(`Wrote ${namesText(entries.map(({ name }) => name))} to ${edited.file}. ${form.after}`)
  if (entries.length > MANY && !('url' in entries[0]!))
    say(`the client will start ${entries.length} programs, one for each; one for all of them: chaperone mcp config ${client} --remove, then --one`)
  sayKept(edited)
}

async function remove(client: Client, names: readonly string[], flags: ConfigFlags): Promise<void> {
  const { FORMS } = await import('../client/config/forms.ts')
  const { editClientFile } = await import('../client/config/file.ts')
  const { entryName, isOurs, ONE } = await import('../client/config/entries.ts')
  const { format, after, clicks, title, file } = FORMS[client]
  if (!file && clicks && flags.json) return printJson({ steps: [] })
  if (!file && clicks) return line(`${title} has no file on this computer. Remove it there: open its entry under Settings, then Apps & Connectors.`)
  const { file: path, project } = await fileFor(client, flags)
  const web = await webIfKnown(flags)
  const wanted = flags.one ? [ONE] : names.map(entryName)
  let gone: string[] = []
  const edited = await editClientFile(
    path,
    (text) => {
      const ours = format.list(text).filter(({ value, name }) => isOurs(value, web) && (wanted.length === 0 || wanted.includes(name)))
      gone = ours.map(({ name }) => name)
      return ours.reduce((soFar, { at, name }) => format.remove(soFar, name, at), text)
    },
    project === undefined ? {} : { project },
  )
  if (flags.json) return printJson(asData(edited, gone))
  if (!edited.changed) return line(`${edited.file} has nothing of Chaperone${wanted.length > 0 ? ` called ${wanted.join(', ')}` : ''}.`)
  line(`Took ${namesText(gone)} out of ${edited.file}. ${after}`)
  sayKept(edited)
}
