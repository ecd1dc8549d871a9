import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import type { DatabaseChecked, DatabaseSetupSteps, DatabaseSigned } from '../api/databases-contract.ts'
import { ChaperoneError } from '../errors.ts'
import { collect, type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { countOf, printFindings } from './db-findings.ts'
import { line, moment, printable, printJson, say } from './output.ts'
import { unread } from './unread.ts'

interface SetupFlags extends ServerFlags {
  readonly read?: readonly string[]
  readonly write?: readonly string[]
  readonly schema?: readonly string[]
  readonly owner?: string
  readonly from?: string
  readonly check?: boolean
  readonly json?: boolean
}

/** A look at several databases as several users takes its time. */
const CHECK_TIMEOUT_MS = 120_000

export function setup(command: Command): void {
  withJson(
    withServer(command.command('setup').description('print what the administrator of a database server does; with --check, whether it is done')),
  )
    .argument('<name>', 'name of the resource')
    .option('--read <user>', 'a database user that only reads; may be repeated; default: those that roles name', collect)
    .option('--write <user>', 'a database user that also writes; may be repeated', collect)
    .option('--schema <name>', 'a schema with the tables; may be repeated; default: public', collect)
    .option('--owner <role>', 'who makes the tables, so that later ones can be read too')
    .option('--from <address/bits>', 'where Chaperone comes from; default: as the server sees it')
    .option('--check', 'come in as each of these users, and test all of it')
    .addHelpText('after', '\nExamples:\n  chaperone db setup orders --read analyst_ro --owner shop_owner\n  chaperone db setup orders --check')
    .action((name: string, flags: SetupFlags) => (flags.check ? check(name, flags) : print(name, flags)))
}

async function print(name: string, flags: SetupFlags): Promise<void> {
  const query = new URLSearchParams()
  for (const key of ['read', 'write', 'schema'] as const) for (const value of flags[key] ?? []) query.append(key, value)
  for (const key of ['owner', 'from'] as const) if (flags[key] !== undefined) query.set(key, flags[key])
  const { steps, users } = await withApi(flags, (api) => api.call<DatabaseSetupSteps>('GET', `/v1/databases/${segment(name)}/setup?${query}`))
  if (flags.json) return printJson({ steps, users })
  line(`# ${printable(name)}, for ${printable(users.map((user) => `${user.name} (${user.reads ? 'reads' : 'reads and writes'})`).join(', '))}`)
  steps.forEach(({ where, title, lines }, i) => {
    line(`\n# ${i + 1}. ${WHERE[where]}: ${printable(title)}`)
    for (const one of lines) line(printable(one))
  })
}

const WHERE = { here: 'Here', 'database server': 'On the database server', psql: 'In psql', AWS: 'In AWS' } as const

async function check(name: string, flags: SetupFlags): Promise<void> {
  const asked = { read: flags.read ?? [], write: flags.write ?? [] }
  const { parts } = await withApi(flags, (api) =>
    api.call<DatabaseChecked>('POST', `/v1/databases/${segment(name)}/check`, asked, { timeoutMs: CHECK_TIMEOUT_MS }),
  )
  if (flags.json) printJson({ parts })
  else printFindings(parts, process.stdout)
  const lacking = countOf(parts, 'missing')
  const advices = countOf(parts, 'advice')
  if (lacking > 0)
    throw new ChaperoneError('conflict', `${lacking} ${lacking === 1 ? 'thing is' : 'things are'} missing.`, {
      fix: 'Below each stands the line that makes it right; then check again.',
    })
  if (!flags.json)
    line(advices === 0 ? 'All of it holds.' : `All that is needed holds; ${advices === 1 ? 'one more fence' : `${advices} more fences`} could stand.`)
}

interface SignFlags extends ServerFlags {
  readonly csr: string
  readonly host?: readonly string[]
  readonly ttl?: string
  readonly json?: boolean
}

export function signServer(command: Command): void {
  withJson(withServer(command.command('sign-server').description('sign the certificate of a database server; its key stays where it was made')))
    .argument('<name>', 'name of the resource')
    .requiredOption('--csr <file>', 'its certificate request: PKCS#10 in PEM, ECDSA P-256')
    .option('--host <name>', 'a name or IP address in the certificate; may be repeated; default: the host of the resource', collect)
    .option('--ttl <duration>', 'how long it lives, at most 398d; default: 90d')
    .addHelpText('after', '\nExample:\n  chaperone db sign-server orders --csr server.csr > server.crt')
    .action(async (name: string, flags: SignFlags) => {
      const csr = await readFile(flags.csr, 'utf8').catch((error: NodeJS.ErrnoException) => {
        throw unread(flags.csr, error, 'Check the path after --csr.')
      })
      const ask = { csr, ...(flags.host ? { names: flags.host } : {}), ...(flags.ttl === undefined ? {} : { ttl: flags.ttl }) }
      const made = await withApi(flags, (api) => api.call<DatabaseSigned>('POST', `/v1/databases/${segment(name)}/server-certificate`, ask))
      if (flags.json) return printJson(made)
      process.stdout.write(made.certificate)
      say(`for ${made.names.join(', ')}, until ${moment(made.notAfter)}`)
    })
}
