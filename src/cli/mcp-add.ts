import { readFile, writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import type { Applied } from '../api/contract.ts'
import type { McpLooked, McpScan, ServerWish } from '../api/mcp-contract.ts'
import type { PinsApprove, PinsDecided } from '../api/pins-contract.ts'
import type { RequestRow } from '../api/requests-contract.ts'
import type { Api } from '../client/api.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { printApplied } from './apply.ts'
import { collect, type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { proposeName } from './mcp-name.ts'
import { line, noticeText, printable, printJson, problemText, say, styled, table } from './output.ts'
import { ask } from './terminal.ts'

export interface AddFlags extends ServerFlags {
  readonly name?: string
  readonly label?: readonly string[]
  readonly env?: readonly string[]
  readonly header?: readonly string[]
  readonly isolation?: string
  readonly read?: readonly string[]
  readonly write?: readonly string[]
  readonly network?: string
  readonly share?: string
  readonly oauth?: string
  readonly trusted?: boolean
  readonly out?: string
  readonly print?: boolean
  readonly scan: boolean
  readonly apply?: boolean
  readonly flagged?: boolean
  readonly ask?: string
  readonly request?: string
  readonly json?: boolean
}

/** A server that npx has to fetch first takes its time. */
const SCAN_TIMEOUT_MS = 150_000

export function add(command: Command): void {
  withJson(withServer(command.command('add').description('add an MCP server: look at what it offers, write its document, apply it')))
    .argument('[server...]', 'a URL, or after --: the program and its arguments')
    .option('--name <name>', 'default: made from the URL or the package')
    .option('--label <key=value>', 'may be repeated', collect)
    .option('--env <KEY=value>', 'environment of the program; KEY=secret:NAME takes a sealed secret; may be repeated', collect)
    .option('--header <key=value>', 'header for the URL; key=secret:NAME takes a sealed secret; may be repeated', collect)
    .option('--isolation <how>', 'user, bubblewrap or none; default: the strongest that the server has')
    .option('--read <folder>', 'what the program may read; may be repeated', collect)
    .option('--write <folder>', 'what the program may write; may be repeated', collect)
    .option('--network <on|off>', 'whether the program may use the network (bubblewrap); default: on')
    .option('--share <who>', 'who shares one process: session, identity or everybody; default: identity')
    .option('--oauth <for>', 'the URL wants OAuth: one login for everybody, or each their own')
    .option('--trusted', "believe the server's own annotations of its tools")
    .option('--out <file>', 'write the document there; default: NAME.mcp.yaml')
    .option('--print', 'print the document instead of writing it')
    .option('--no-scan', 'do not start or reach the server: write only what is given here')
    .option('--apply', 'apply the document, and confirm the definitions that were shown')
    .option('--flagged', 'with --apply: also where something is flagged as dangerous')
    .option('--ask <reason>', 'ask an administrator to add it; anybody may')
    .option('--request <id>', 'add what somebody has asked for')
    .addHelpText(
      'after',
      '\nExamples:\n  chaperone mcp add --read /srv/reports -- npx -y @modelcontextprotocol/server-filesystem /srv/reports\n  chaperone mcp add https://mcp.example.com/mcp --header Authorization=secret:example',
    )
    .action((words: string[], flags: AddFlags, self: Command) => run(words, flags, self))
}

async function run(words: readonly string[], flags: AddFlags, self: Command): Promise<void> {
  if (flags.ask !== undefined && (flags.apply || flags.request !== undefined))
    throw new ChaperoneError('usage', '--ask asks somebody else to do it; --apply and --request do it.')
  if (flags.request !== undefined && words.length > 0)
    throw new ChaperoneError('usage', 'What is added is what the request asks for.', { fix: 'Leave the server out.' })
  const given = flags.request === undefined ? wishOf(words, flags, rawArguments(self)) : undefined
  // Without a look at it nothing is needed but what is written here: no server, no sign-in.
  if (given && !flags.scan && !flags.apply && flags.ask === undefined) return finish(given, undefined, flags)
  await withApi(flags, async (api) => {
    const request = flags.request === undefined ? undefined : await api.call<RequestRow>('GET', `/v1/requests/${segment(flags.request)}`)
    const wish = given ?? request?.wish
    if (!wish)
      throw new ChaperoneError('usage', 'That request is for something else than a server.', { fix: `See: chaperone requests show ${flags.request}` })
    if (flags.ask !== undefined) return asked(api, wish, flags)
    if (request) assertYours(request, flags)
    if (!flags.print) await assertFree(fileOf(wish, flags))
    const scan = flags.scan && flags.oauth === undefined ? await look(api, wish) : undefined
    await finish(wish, scan, flags, api, request)
  })
}

/** Before anything is applied: the server refuses it afterwards in any case. */
function assertYours(request: RequestRow, flags: AddFlags): void {
  if (request.state !== 'pending') throw new ChaperoneError('conflict', `The request is ${request.state} already.`)
  if (flags.apply && request.standing.no !== undefined) {
    throw new ChaperoneError('approval_refused', request.standing.no, {
      fix: 'Add the server without it, which is recorded as your own doing, or have somebody else decide.',
    })
  }
  say(`${request.by} asks for it: ${request.reason}`)
}

async function asked(api: Api, wish: ServerWish, flags: AddFlags): Promise<void> {
  const { id } = await api.call<{ id: string }>('POST', '/v1/requests', { kind: 'server', ...wish, reason: flags.ask })
  if (flags.json) return printJson({ id })
  line(`Asked for ${printable(wish.name)}: ${id}. See what becomes of it with: chaperone requests ls`)
}

/** `otherwise`: what to do where it cannot be looked at. */
export async function look(
  api: Api,
  wish: ServerWish,
  otherwise = 'To write the document without a look at the server: --no-scan',
): Promise<McpScan> {
  try {
    return await api.call<McpScan>('POST', '/v1/mcp/scan', wish, { timeoutMs: SCAN_TIMEOUT_MS })
  } catch (cause) {
    const error = toChaperoneError(cause)
    if (!error.code.startsWith('upstream_') && error.code !== 'isolation_unavailable') throw cause
    const login = error.code === 'upstream_login_required' ? ' If it wants a login, add it with --oauth everybody or --oauth each.' : ''
    const fix = `${error.fix ?? ''}${login} ${otherwise}`.trim()
    throw new ChaperoneError(error.code, error.message, { fix, cause })
  }
}

/** The screen, the document, and what comes next. */
async function finish(wish: ServerWish, scan: McpScan | undefined, flags: AddFlags, api?: Api, request?: RequestRow): Promise<void> {
  const { serverYaml } = await import('./mcp-yaml.ts')
  const text = serverYaml(wish, scan)
  if (scan && !flags.json) await show(wish, scan, flags)
  const file = flags.print ? undefined : fileOf(wish, flags)
  if (file !== undefined) {
    await assertFree(file, text)
    await writeFile(file, text, { mode: 0o644 })
  } else if (!flags.json) process.stdout.write(text)
  const outcome = flags.apply ? await apply(api!, wish, scan, text, file ?? 'mcp add', flags, request) : undefined
  if (flags.json)
    return printJson({ name: wish.name, ...(file === undefined ? {} : { file }), document: text, ...(scan ? { scan } : {}), ...outcome })
  if (file === undefined && !flags.apply) return
  if (file !== undefined) line(`Wrote ${printable(file)}.`)
  const apart = flags.oauth === undefined ? [] : [`chaperone mcp login ${wish.name}`]
  const next = flags.apply
    ? apart
    : [`chaperone apply -f ${file}`, ...apart, `chaperone mcp pins ${wish.name} --look`, `chaperone mcp pins approve ${wish.name} --all`]
  if (next.length > 0) line(`Next:\n${next.map((one) => `  ${printable(one)}`).join('\n')}`)
  line(`No role speaks of it yet unless one says \`mcp: any\`. For example:\n  allow: [{ mcp: ${printable(wish.name)}, can: read }]`)
}

export async function show({ name }: ServerWish, scan: McpScan, flags: AddFlags): Promise<void> {
  const { counted, flagLine } = await import('./mcp-yaml.ts')
  // A document that is printed goes into a file or a pipe; what is for eyes stands beside it.
  const out = flags.print ? (text: string) => void process.stderr.write(`${text}\n`) : line
  const tools = scan.items.filter(({ kind }) => kind === 'tool')
  const rest = scan.items.filter(({ kind }) => kind !== 'tool')
  const who = [scan.about.title ?? scan.about.name ?? name, scan.about.version].filter(Boolean).join(' ')
  const also = rest.length === 0 ? '' : `, ${counted(rest)}`
  out(`${styled('bold', printable(who))}: ${tools.length} tools${printable(also)}${scan.more ? ', and more than was looked at' : ''}`)
  if (tools.length > 0)
    out(
      table(tools, [
        { title: 'TOOL', of: (tool) => tool.name },
        { title: 'PROPOSED EFFECTS', of: (tool) => tool.effects?.join(', ') },
        {
          title: 'BECAUSE',
          of: (tool) =>
            tool.effectsFrom === 'name' ? `${tool.why} (a guess)` : `${tool.effectsFrom === 'annotations' ? 'the server says: ' : ''}${tool.why}`,
        },
        { title: 'FLAGS', of: (tool) => [...new Set(tool.flags.map(({ code }) => code))].join(', ') },
      ]),
    )
  const flagged = [
    ...scan.flags.map((flag) => ({ title: '', flag })),
    ...scan.items.flatMap((item) => item.flags.map((flag) => ({ title: `${`${item.kind} ${item.name}`.trim()}: `, flag }))),
  ]
  for (const { title, flag } of flagged)
    out(styled(flag.severity === 'danger' ? 'red' : flag.severity === 'warning' ? 'yellow' : 'dim', printable(`${title}${flagLine(flag)}`)))
  for (const notice of scan.notices) process.stderr.write(`${noticeText(notice)}\n`)
  for (const warning of scan.warnings) process.stderr.write(`${problemText(warning)}\n`)
}

export async function apply(
  api: Api,
  wish: ServerWish,
  scan: McpScan | undefined,
  text: string,
  path: string,
  flags: AddFlags,
  request: RequestRow | undefined,
): Promise<{ applied: Applied; confirmed: number; looked?: McpLooked }> {
  await assertWanted(wish, scan, flags)
  const applied = await api.call<Applied>('POST', '/v1/apply', { files: [{ path, text }] })
  if (!flags.json) printApplied(applied)
  const looked = scan && (await confirm(api, wish.name, scan))
  if (looked && !flags.json) {
    line(`Confirmed ${scan!.items.length} definitions of ${printable(wish.name)}, as they are shown here.`)
  }
  if (request) {
    await api.call<RequestRow>('POST', `/v1/requests/${segment(request.id)}/decide`, { verdict: 'approve', seen: request.seen })
    if (!flags.json) line(`Approved ${request.id}.`)
  }
  return { applied, confirmed: scan?.items.length ?? 0, ...(looked ? { looked } : {}) }
}

/** A yes to what stands on the screen, and a second thought where something there is dangerous. */
async function assertWanted(wish: ServerWish, scan: McpScan | undefined, flags: AddFlags): Promise<void> {
  const dangers = [...(scan?.flags ?? []), ...(scan?.items ?? []).flatMap((item) => item.flags)].filter(({ severity }) => severity === 'danger')
  if (dangers.length > 0 && !flags.flagged) {
    const codes = [...new Set(dangers.map(({ code }) => code))].join(', ')
    throw new ChaperoneError('usage', `Something is flagged as dangerous, so it was not applied: ${codes}.`, {
      fix: 'Look at it. When it is meant so after all, say --flagged.',
    })
  }
  if (!process.stdin.isTTY || flags.json) return
  const what = scan ? ` and confirm the ${scan.items.length} definitions above` : ''
  const answer = await ask(`Apply ${printable(wish.name)}${what}? [y/N] `)
  if (!/^y(?:es)?$/i.test(answer ?? '')) throw new ChaperoneError('usage', 'Nothing was applied.')
}

/** The server is looked at once more, as what it is now; what it then says must be what was shown, else nothing is confirmed. */
async function confirm(api: Api, name: string, { items }: McpScan): Promise<McpLooked> {
  const looked = await api.call<McpLooked>('POST', `/v1/pins/${segment(name)}/look`, {}, { timeoutMs: SCAN_TIMEOUT_MS })
  const pins: PinsApprove['pins'] = items.map(({ kind, name, sha256 }) => ({ kind, name, sha256 }))
  if (pins.length > 0) await api.call<PinsDecided>('POST', `/v1/pins/${segment(name)}/approve`, { pins })
  return looked
}

const fileOf = ({ name }: ServerWish, flags: AddFlags): string => flags.out ?? `${name}.mcp.yaml`

/** A file that somebody has worked on is not overwritten; the same once more is. */
async function assertFree(file: string, text?: string): Promise<void> {
  let there: string
  try {
    there = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  // Before the look nobody knows what would be written.
  if (text === undefined || there === text) return
  throw new ChaperoneError('usage', `${file} is there already, and says something else.`, {
    fix: 'Remove it, or write elsewhere with --out, or use --print.',
  })
}

/** What stands behind `--`: commander does not tell. */
function rawArguments(self: Command): { readonly behind: number } {
  let root = self
  while (root.parent) root = root.parent
  const raw = (root as Command & { readonly rawArgs?: readonly string[] }).rawArgs ?? []
  const at = raw.indexOf('--')
  return { behind: at === -1 ? 0 : raw.length - at - 1 }
}

function wishOf(words: readonly string[], flags: AddFlags, { behind }: { readonly behind: number }): ServerWish {
  const before = words.slice(0, words.length - behind)
  const command = words.slice(words.length - behind)
  const [url, ...more] = before
  const fix = 'Write: chaperone mcp add URL, or: chaperone mcp add -- COMMAND ARGUMENTS'
  if ((url === undefined) === (command.length === 0))
    throw new ChaperoneError('usage', 'Give a URL, or after -- a command; a name is given with --name.', { fix })
  if (url !== undefined && (more.length > 0 || !/^https?:\/\//i.test(url) || !URL.canParse(url)))
    throw new ChaperoneError('usage', `${[url, ...more].join(' ')} is not a URL.`, { fix })
  const name = flags.name ?? proposeName(url === undefined ? { command } : { url })
  const { network, share, oauth } = flags
  if (network !== undefined && !['on', 'off'].includes(network)) throw new ChaperoneError('usage', '--network is on or off.')
  if (oauth !== undefined && !['everybody', 'each'].includes(oauth)) throw new ChaperoneError('usage', '--oauth is everybody or each.')
  return {
    name,
    ...(flags.label ? { labels: pairs(flags.label, '--label') } : {}),
    spec: {
      ...(url === undefined ? { command } : { url }),
      ...(flags.env ? { env: secrets(pairs(flags.env, '--env')) } : {}),
      ...(flags.header ? { headers: secrets(pairs(flags.header, '--header')) } : {}),
      ...(flags.isolation === undefined ? {} : { isolation: flags.isolation }),
      ...(flags.read ? { read: flags.read } : {}),
      ...(flags.write ? { write: flags.write } : {}),
      ...(network === 'off' ? { network: false } : {}),
      ...(share === undefined ? {} : { share }),
      ...(oauth === undefined ? {} : { auth: { oauth: { for: oauth } } }),
      ...(flags.trusted ? { trusted: true } : {}),
    },
  }
}

function pairs(given: readonly string[], flag: string): Record<string, string> {
  return Object.fromEntries(
    given.map((text) => {
      const at = text.indexOf('=')
      if (at < 1) throw new ChaperoneError('usage', `${flag} ${text} has no value.`, { fix: `Write ${flag} NAME=VALUE.` })
      return [text.slice(0, at), text.slice(at + 1)]
    }),
  )
}

const secrets = (values: Record<string, string>) =>
  Object.fromEntries(
    Object.entries(values).map(([key, value]) => [key, value.startsWith('secret:') ? { secret: value.slice('secret:'.length) } : value]),
  )
