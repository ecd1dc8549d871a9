import type { Command } from 'commander'
import type { RoleNotice } from '../api/contract.ts'
import type { PinRow, PinsDecided } from '../api/pins-contract.ts'
import type { Api } from '../client/api.ts'
import { ChaperoneError } from '../errors.ts'
import { collect, query, type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, list, moment, noticeText, printable, printableLines, printJson, styled } from './output.ts'
import { ask } from './terminal.ts'

type Flags = ServerFlags & { readonly json?: boolean }
type Which = Flags & { readonly kind?: string }

const KINDS = ['tool', 'prompt', 'template', 'instructions']

const WORDS = `
States:
  confirmed    somebody has looked at the definition and approved it
  unconfirmed  it holds as it was first seen; nobody has looked at it
  changed      another definition was seen since: nobody can use it until somebody decides
  new          it came after something of the server was confirmed: nobody can use it until somebody decides`

/** `chaperone mcp pins`: the definitions of what servers offer, and the decisions about them. */
export function pins(command: Command): void {
  const group = command.command('pins').description('definitions of tools, prompts, templates and instructions: which hold, which wait for you')
  // Its subcommands take the same options: each belongs to the command that it stands behind.
  group.enablePositionalOptions()
  withJson(withServer(group))
    .argument('[server]', 'name of the MCP server; default: all')
    .option('--diff [name]', 'what changed, and what is new; of this name only')
    .option('--look', 'start or reach the server first, and take in what it offers now')
    .addHelpText('after', WORDS)
    .action(async (server: string | undefined, flags: Flags & { diff?: string | true; look?: boolean }) => {
      if (flags.look) await look(flags, server)
      if (flags.diff === undefined) return show(flags, server)
      if (server === undefined) throw new ChaperoneError('usage', 'Name the server.', { fix: 'chaperone mcp pins SERVER --diff' })
      const rows = await withApi(flags, (api) => fetched(api, server, flags.diff === true ? [] : [flags.diff as string]))
      const waiting = flags.diff === true ? rows.filter(({ state }) => state === 'changed' || state === 'new') : rows
      if (flags.json) return printJson(waiting)
      if (waiting.length === 0) process.stderr.write('Nothing waits for a decision.\n')
      for (const row of waiting) print(row)
    })

  withJson(withServer(group.command('approve').description('let definitions hold, as they are shown now')))
    .argument('<server>', 'name of the MCP server')
    .argument('[names...]', 'tools, prompts, templates by name; `instructions`')
    .option('--all', 'everything that is not confirmed yet')
    .option('--kind <kind>', `only ${KINDS.join(', ')}`)
    .option('--sha256 <hex>', 'approve only this very definition, without asking; may be repeated', collect)
    .option('-y, --yes', 'approve what is printed, without asking')
    .addHelpText('after', '\nExample:\n  chaperone mcp pins approve files read_file write_file')
    .action(async (server: string, names: string[], flags: Which & { all?: boolean; sha256?: string[]; yes?: boolean }) => {
      if (names.length > 0 === (flags.all === true))
        throw new ChaperoneError('usage', 'Say what you approve: names, or --all.', { fix: `See \`chaperone mcp pins ${server} --diff\`.` })
      await withApi(flags, async (api) => {
        const rows = selected(
          await fetched(
            api,
            server,
            names.filter((name) => name !== 'instructions'),
          ),
          server,
          names,
          flags.kind,
        )
        const wanted = rows.filter(({ state }) => state !== 'confirmed')
        if (wanted.length === 0) throw new ChaperoneError('conflict', 'All of it is confirmed already.')
        if (flags.sha256) assertNamed(wanted, flags.sha256)
        else {
          // Nobody approves what he was not shown (peers R47).
          if (wanted.some(({ definition }) => definition === undefined))
            throw new ChaperoneError('usage', 'These are more definitions than are shown at once.', { fix: 'Approve them by name, some at a time.' })
          for (const row of wanted) print(row)
          if (!flags.yes) await assertYes(`Approve ${wanted.length === 1 ? 'this definition' : `these ${wanted.length} definitions`} of ${server}?`)
        }
        const body = { pins: wanted.map(({ kind, name, sha256 }) => ({ kind, name, sha256 })) }
        const { acknowledgedMs } = await api.call<PinsDecided>('POST', `/v1/pins/${segment(server)}/approve`, body)
        if (flags.json) return printJson({ ...body, acknowledgedMs })
        line(`Approved ${wanted.map(title).join(', ')} of ${printable(server)}.`)
      })
    })

  withJson(withServer(group.command('keep').description('turn a changed definition down: the one before holds, until the other is seen again')))
    .argument('<server>', 'name of the MCP server')
    .argument('<name>', 'a tool, prompt or template; `instructions`')
    .option('--kind <kind>', `only ${KINDS.join(', ')}`)
    .addHelpText('after', '\nExample:\n  chaperone mcp pins keep files read_file')
    .action(async (server: string, name: string, flags: Which) => {
      await withApi(flags, async (api) => {
        const rows = selected(await fetched(api, server, name === 'instructions' ? [] : [name]), server, [name], flags.kind)
        if (rows.length > 1)
          throw new ChaperoneError('usage', `More than one thing is called ${name}.`, { fix: 'Say which: --kind tool, for example.' })
        const row = rows[0]!
        const decided = await api.call<PinsDecided>('POST', `/v1/pins/${segment(server)}/keep`, { kind: row.kind, name: row.name })
        if (flags.json) return printJson(decided)
        line(`Kept the definition of ${title(row)} of ${printable(server)} as it was.`)
      })
    })
}

const ON = { catalog: '', server: " (the server's word)", nobody: ' (unconfirmed)' }

const fetched = async (api: Api, server: string, names: readonly string[]): Promise<readonly PinRow[]> => {
  const only = names.map((name) => `&name=${encodeURIComponent(name)}`).join('')
  return (await api.call<{ pins: PinRow[] }>('GET', `/v1/pins/${segment(server)}${query({ texts: 1 })}${only}`)).pins
}

/** A server that npx has to fetch first takes its time. */
const LOOK_TIMEOUT_MS = 150_000

async function look(flags: Flags, server: string | undefined): Promise<void> {
  if (server === undefined) throw new ChaperoneError('usage', 'Name the server.', { fix: 'chaperone mcp pins SERVER --look' })
  await withApi(flags, (api) => api.call('POST', `/v1/pins/${segment(server)}/look`, {}, { timeoutMs: LOOK_TIMEOUT_MS }))
}

async function show(flags: Flags, server: string | undefined): Promise<void> {
  const path = server === undefined ? '/v1/pins' : `/v1/pins/${segment(server)}`
  const { pins, notices = [] } = await withApi(flags, (api) => api.call<{ pins: PinRow[]; notices?: RoleNotice[] }>('GET', path))
  for (const notice of notices) process.stderr.write(`${noticeText(notice)}\n`)
  list(
    pins,
    [
      ...(server === undefined ? [{ title: 'SERVER', of: (row: PinRow) => row.server }] : []),
      { title: 'KIND', of: (row) => row.kind },
      { title: 'NAME', of: (row) => row.name },
      { title: 'STATE', of: (row) => row.state, whole: true },
      { title: 'SINCE', of: (row) => moment(row.since) },
      { title: 'EFFECTS', of: (row) => row.effects && `${row.effects.join(', ')}${ON[row.effectsFrom ?? 'nobody']}` },
    ],
    { json: flags.json, none: 'Nothing was seen yet: definitions are taken in when somebody lists what a server offers.' },
  )
}

/** Every name must be there: a typing error must not look like an approval. Instructions have no name of their own. */
function selected(rows: readonly PinRow[], server: string, names: readonly string[], kind: string | undefined): readonly PinRow[] {
  if (kind !== undefined && !KINDS.includes(kind))
    throw new ChaperoneError('usage', `${kind} is not known.`, { fix: `Write one of ${KINDS.join(', ')}.` })
  const ofKind = kind === undefined ? rows : rows.filter((row) => row.kind === kind)
  if (names.length === 0) return ofKind
  const called = (row: PinRow, name: string) => row.name === name || (row.kind === 'instructions' && name === 'instructions')
  const missing = names.find((name) => !ofKind.some((row) => called(row, name)))
  if (missing !== undefined)
    throw new ChaperoneError('not_found', `${server} never offered ${missing}.`, { fix: `See \`chaperone mcp pins ${server}\`.` })
  return ofKind.filter((row) => names.some((name) => called(row, name)))
}

function assertNamed(rows: readonly PinRow[], hashes: readonly string[]): void {
  const other = rows.find(({ sha256 }) => !hashes.includes(sha256))
  if (!other) return
  throw new ChaperoneError('conflict', `${title(other)} has the hash ${other.sha256}, which was not given; nothing was approved.`, {
    fix: 'Look at it: chaperone mcp pins SERVER --diff',
  })
}

async function assertYes(question: string): Promise<void> {
  if (!process.stdin.isTTY) {
    throw new ChaperoneError('usage', 'Nobody is here to say yes.', {
      fix: 'Give the hash that you looked at with --sha256, or --yes for all that is printed.',
    })
  }
  const answer = await ask(`${printable(question)} [y/N] `)
  if (!/^y(es)?$/i.test(answer ?? '')) throw new ChaperoneError('usage', 'Nothing was approved.')
}

const title = ({ kind, name }: PinRow): string => printable(kind === 'instructions' ? 'instructions' : `${kind} ${name}`)

function print(row: PinRow): void {
  line(styled('bold', `${title(row)}  ${row.state} since ${moment(row.since)}`))
  line(`sha256 ${row.sha256}`)
  for (const flag of row.flags ?? []) {
    const text = printable(`${flag.severity}: ${flag.code} in ${flag.where}: ${flag.excerpt}`)
    line(flag.severity === 'danger' ? styled('red', text) : text)
  }
  for (const text of printableLines(row.diff ?? row.definition ?? '')
    .trimEnd()
    .split('\n'))
    line(row.diff === undefined ? `  ${text}` : coloured(text))
  line()
}

const coloured = (text: string) => (text.startsWith('+') ? styled('green', text) : text.startsWith('-') ? styled('red', text) : text)
