import { readFile, writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import type { Applied } from '../api/contract.ts'
import type { DatabaseLook } from '../api/databases-contract.ts'
import type { ServerWish } from '../api/mcp-contract.ts'
import type { Api } from '../client/api.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { printApplied } from './apply.ts'
import { collect, type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { printFindings } from './db-findings.ts'
import { line, printable, printJson, problemText } from './output.ts'
import { ask } from './terminal.ts'
import { unread } from './unread.ts'

interface AddFlags extends ServerFlags {
  readonly database: readonly string[]
  readonly ca?: string
  readonly tlsName?: string
  readonly label?: readonly string[]
  readonly password?: readonly string[]
  readonly awsRegion?: string
  readonly out?: string
  readonly print?: boolean
  readonly look: boolean
  readonly apply?: boolean
  readonly json?: boolean
}

export function add(command: Command): void {
  withJson(withServer(command.command('add').description('add a database server: look at it, write its document, apply it')))
    .argument('<name>', 'what it is to be called')
    .argument('<address>', 'host:port; the port may be left out when it is 5432')
    .requiredOption('--database <name>', 'a database on it that may be reached; may be repeated', collect)
    .option('--ca <file>', "PEM file of who signed the server's certificate, or `public`; default: Chaperone signs it (db setup)")
    .option('--tls-name <name>', 'the name in the certificate of the server, when it is not the host')
    .option('--label <key=value>', 'may be repeated', collect)
    .option('--aws-region <region>', 'RDS or Aurora with IAM authentication: log in with AWS tokens of minutes')
    .option('--password <USER=secret:NAME>', 'log in as USER with the password sealed under NAME; may be repeated; default: certificates', collect)
    .option('--out <file>', 'write the document there; default: NAME.postgres.yaml')
    .option('--print', 'print the document instead of writing it')
    .option('--no-look', 'do not reach the server: write only what is given here')
    .option('--apply', 'apply the document')
    .addHelpText(
      'after',
      '\nExamples:\n  chaperone db add orders db.internal --database orders\n  chaperone db add shop shop.abc.eu-central-1.rds.amazonaws.com --database shop --aws-region eu-central-1 --ca eu-central-1-bundle.pem',
    )
    .action((name: string, address: string, flags: AddFlags) => run(name, address, flags))
}

async function run(name: string, address: string, flags: AddFlags): Promise<void> {
  const wish = await wishOf(name, address, flags)
  const text = await documentText(wish)
  const file = flags.print ? undefined : (flags.out ?? `${name}.postgres.yaml`)
  if (file !== undefined) await assertFree(file, text)
  if (!flags.look && !flags.apply) return await finish(wish, text, file, flags)
  await withApi(flags, async (api) => {
    const look = flags.look ? await lookAt(api, wish) : undefined
    if (look && !flags.json) {
      // A document that is printed goes into a file or a pipe; what is for eyes stands beside it.
      printFindings([{ findings: look.findings }], flags.print ? process.stderr : process.stdout)
      for (const warning of look.warnings) process.stderr.write(`${problemText(warning)}\n`)
    }
    await finish(wish, text, file, flags, look, api)
  })
}

async function lookAt(api: Api, wish: ServerWish): Promise<DatabaseLook> {
  try {
    return await api.call<DatabaseLook>('POST', '/v1/databases/look', wish)
  } catch (cause) {
    const error = toChaperoneError(cause)
    if (!error.code.startsWith('upstream_')) throw cause
    throw new ChaperoneError(error.code, error.message, {
      fix: `${error.fix ?? ''} To write the document without a look at the server: --no-look`.trim(),
      cause,
    })
  }
}

async function finish(wish: ServerWish, text: string, file: string | undefined, flags: AddFlags, look?: DatabaseLook, api?: Api): Promise<void> {
  if (file !== undefined) await writeFile(file, text, { mode: 0o644 })
  else if (!flags.json) process.stdout.write(text)
  let applied: Applied | undefined
  if (flags.apply) {
    if (process.stdin.isTTY && !flags.json && !/^y(?:es)?$/i.test((await ask(`Apply ${printable(wish.name)}? [y/N] `)) ?? ''))
      throw new ChaperoneError('usage', 'Nothing was applied.')
    applied = await api!.call<Applied>('POST', '/v1/apply', { files: [{ path: file ?? 'db add', text }] })
    if (!flags.json) printApplied(applied)
  }
  if (flags.json)
    return printJson({
      name: wish.name,
      ...(file === undefined ? {} : { file }),
      document: text,
      ...(look ? { look } : {}),
      ...(applied ? { applied } : {}),
    })
  if (file === undefined && !flags.apply) return
  if (file !== undefined) line(`Wrote ${printable(file)}.`)
  const next = [...(flags.apply ? [] : [`chaperone apply -f ${file}`]), `chaperone db setup ${wish.name}`, `chaperone db setup ${wish.name} --check`]
  line(`Next:\n${next.map((one) => `  ${printable(one)}`).join('\n')}`)
  const [database = ''] = flags.database
  line(
    `No role speaks of it yet unless one says \`postgres: any\`. For example:\n  allow: [{ postgres: ${printable(wish.name)}, databases: [${printable(database)}], as: ${printable(wish.name.replace(/[^a-z0-9_]/g, '_'))}_ro, can: read }]`,
  )
}

async function wishOf(name: string, given: string, flags: AddFlags): Promise<ServerWish> {
  const address = /:\d+$/.test(given) ? given : `${given}:5432`
  if (flags.awsRegion !== undefined && flags.password !== undefined)
    throw new ChaperoneError('usage', '--aws-region and --password are two ways to log in.', { fix: 'Give one of them.' })
  const tls = {
    ...(flags.ca === undefined ? {} : { ca: flags.ca === 'public' ? 'public' : await pemOf(flags.ca) }),
    ...(flags.tlsName === undefined ? {} : { name: flags.tlsName }),
  }
  const password = flags.password && Object.fromEntries(flags.password.map(sealedUnder))
  return {
    name,
    ...(flags.label ? { labels: pairs(flags.label, '--label') } : {}),
    spec: {
      address,
      databases: flags.database,
      ...(Object.keys(tls).length > 0 ? { tls } : {}),
      ...(flags.awsRegion === undefined ? {} : { auth: { aws_iam: { region: flags.awsRegion } } }),
      ...(password ? { auth: { password } } : {}),
    },
  }
}

async function pemOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw unread(file, error, 'Give --ca a PEM file, or the word public.')
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

function sealedUnder(text: string): [user: string, password: { secret: string }] {
  const [, user, secret] = /^([^=]+)=secret:(.+)$/.exec(text) ?? []
  // What stands there may be the password itself, so it is not repeated.
  if (user === undefined || secret === undefined)
    throw new ChaperoneError('usage', 'A password is never written down.', {
      fix: 'Seal it with `chaperone secret set NAME`, and write --password USER=secret:NAME.',
    })
  return [user, { secret }]
}

async function documentText({ name, labels, spec }: ServerWish): Promise<string> {
  const { Document } = await import('yaml')
  const document = new Document({ kind: 'postgres', name, ...(labels ? { labels } : {}), spec })
  const databases = document.getIn(['spec', 'databases']) as { flow?: boolean }
  databases.flow = true
  return document.toString({ lineWidth: 0, flowCollectionPadding: false })
}

/** A file that somebody has worked on is not overwritten; the same once more is. */
async function assertFree(file: string, text: string): Promise<void> {
  let there: string
  try {
    there = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  if (there === text) return
  throw new ChaperoneError('usage', `${file} is there already, and says something else.`, {
    fix: 'Remove it, or write elsewhere with --out, or use --print.',
  })
}
