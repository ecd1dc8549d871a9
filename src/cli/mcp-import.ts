import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { Document, Explained } from '../api/contract.ts'
import type { ServerWish } from '../api/mcp-contract.ts'
import type { UpstreamCredentials } from '../api/upstream-credentials-contract.ts'
import type { Api } from '../client/api.ts'
import type { Brought, Catalog, Offer } from '../client/importing/bring.ts'
import type { FoundServer } from '../client/importing/find.ts'
import type { Journal, Journals } from '../client/importing/journal.ts'
import { shellWord } from '../encoding/shell-word.ts'
import { ChaperoneError, REASONS, toChaperoneError } from '../errors.ts'
import { collect, type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { webIfKnown } from './mcp-config.ts'
import { line, moment, printable, printJson, say, styled, table } from './output.ts'
import { ask } from './terminal.ts'

interface Flags extends ServerFlags {
  readonly all?: boolean
  readonly scan?: boolean
  readonly project?: readonly string[]
  readonly ask?: string
  readonly flagged?: boolean
  readonly undo?: boolean | string
  readonly forget?: boolean | string
  readonly json?: boolean
}

/** The exit code of `--scan` when secrets were found: for scripts over many computers. */
const FOUND = 1

export function bring(command: Command): void {
  withJson(
    withServer(command.command('import').description("bring the MCP servers of this computer's clients along: catalog, vault, and their files")),
  )
    .argument('[names...]', 'as the list shows them; default: each is asked about')
    .option('--scan', 'only report what is there; exit code 1 when secrets were found')
    .option('--all', 'all of the files of the user (and of each --project), without asking about each')
    .option('--project <folder>', "also this project's files; may be repeated; default: this folder", collect)
    .option('--ask <reason>', 'ask an administrator for them; without the right to add servers it is asked for anyhow')
    .option('--flagged', 'also where something is flagged as dangerous')
    .option('--undo [id]', 'put the files back as they were before the last import, or before that one')
    .option('--forget [id]', 'throw the copies away that --undo works with: they hold the secrets')
    .addHelpText(
      'after',
      '\nExamples:\n  chaperone mcp import --scan\n  chaperone mcp import github linear\n  chaperone mcp import --scan --json --project ~/src/shop\n  chaperone mcp import --undo',
    )
    .action((names: string[], flags: Flags) => run(names, flags))
}

async function run(names: readonly string[], flags: Flags): Promise<void> {
  const { profileHome } = await import('../client/profile.ts')
  const { openJournals } = await import('../client/importing/journal.ts')
  const journals = openJournals(profileHome())
  if (flags.undo) return journals.alone(() => goBack(journals, flags))
  if (flags.forget) return journals.alone(() => throwAway(journals, flags))
  const { findServers } = await import('../client/importing/find.ts')
  const { thisPlace } = await import('../client/config/places.ts')
  const web = await webIfKnown(flags)
  // A repository may bring any server: without being asked about each, nobody brings along what he happens to stand in.
  const projects = (flags.project ?? (flags.all ? [] : ['.'])).map((folder) => resolve(folder))
  const found = await findServers(thisPlace(), projects, web)
  for (const { file, message } of found.faults) say(`${file} was not looked at: ${message}`)
  const kept = await journals.list()
  if (flags.scan) return report(found.servers, found.files, kept, flags)
  if (kept.some(({ state }) => state === 'begun')) say('an import was interrupted: this goes on with it; or put everything back with --undo')

  const { existsSync } = await import('node:fs')
  const { offersOf } = await import('../client/importing/bring.ts')
  const offers = offersOf(found.servers, { env: process.env, exists: existsSync })
  const unknown = names.find((name) => !offers.some((offer) => offer.name === name))
  if (unknown !== undefined)
    throw new ChaperoneError('not_found', `No client here has a server ${unknown}.`, { fix: 'See the list: chaperone mcp import --scan' })
  const wanted = names.length > 0 ? offers.filter(({ name }) => names.includes(name)) : offers
  if (offers.length === 0) await finish(journals)
  if (wanted.length === 0) return line('No client on this computer has an MCP server that does not go through Chaperone.')
  if (!flags.json) showOffers(wanted)
  const able = wanted.filter(({ is }) => 'wish' in is)
  const chosen = flags.all || names.length > 0 ? able : await choose(able, flags)
  if (chosen.length === 0) return line('Nothing was changed.')
  await withApi(flags, async (api, profile) => {
    if (flags.ask !== undefined || !(await may(api))) return request(api, chosen, flags)
    const { bringAlong } = await import('../client/importing/bring.ts')
    const home = process.env.CHAPERONE_HOME
    const way = { ...(flags.server === undefined ? {} : { server: flags.server }), ...(home ? { home } : {}) }
    const done = await journals.alone(() =>
      bringAlong(chosen, { catalog: catalogOf(api, profile.identity.name, flags), journals, way, server: profile.address }),
    )
    conclude(done.brought, done.journal, journals, flags)
  })
}

const clientOf = ({ source, at }: FoundServer): string => `${source.client}${at.length > 2 && source.client === 'claude-code' ? ` (${at[1]})` : ''}`
const secretText = ({ secrets }: FoundServer): string => secrets.map(({ where, kind }) => `${where} (${kind})`).join(', ')

/** Never a value: only where it stands, and what gave it away. */
function report(servers: readonly FoundServer[], files: number, kept: readonly Journal[], flags: Flags): void {
  const exposed = servers.filter(({ secrets }) => secrets.length > 0)
  // An old copy that holds no secret is nobody's concern.
  const shown = servers.filter(({ copy, secrets }) => !copy || secrets.length > 0)
  if (exposed.length > 0 || kept.length > 0) process.exitCode = FOUND
  if (flags.json) {
    printJson({
      files,
      servers: shown.map(({ source, at, name, ours, secrets, copy }) => ({
        client: source.client,
        file: source.file,
        at,
        name,
        state: copy ? 'copy' : ours ? 'through Chaperone' : 'direct',
        secrets: secrets.map(({ where, kind, movable }) => ({ where, kind, movable })),
      })),
      copies: kept.map(({ id, at, files }) => ({ id, at, files: files.map(({ file }) => file) })),
    })
    return
  }
  if (shown.length === 0) line(`No MCP server in ${files} ${files === 1 ? 'file' : 'files'} of clients.`)
  else
    line(
      table(shown, [
        { title: 'NAME', of: ({ name }) => name },
        { title: 'CLIENT', of: clientOf },
        { title: 'STATE', of: ({ ours, copy }) => (copy ? 'old copy' : ours ? 'through Chaperone' : 'direct') },
        { title: 'SECRETS', of: secretText },
        { title: 'FILE', of: ({ source }) => source.file },
      ]),
    )
  const count = exposed.reduce((sum, { secrets, copy }) => sum + (copy ? 0 : secrets.length), 0)
  if (count > 0)
    line(
      `${count} ${count === 1 ? 'secret stands' : 'secrets stand'} in files that every program of yours can read. Bring them along: chaperone mcp import`,
    )
  const copies = [...new Set(exposed.filter(({ copy }) => copy).map(({ source }) => source.file))]
  if (copies.length > 0) line(`Old copies hold secrets. When you do not need them: rm ${copies.map((file) => shellWord(printable(file))).join(' ')}`)
  for (const { id, at } of kept)
    line(`The import of ${moment(at)} has copies of files, with the secrets that were in them. When all works: chaperone mcp import --forget ${id}`)
}

function showOffers(offers: readonly Offer[]): void {
  for (const { name, found, is } of offers) {
    line(`${styled('bold', printable(name))}  ${found.map((one) => `${clientOf(one)}: ${printable(one.source.file)}`).join('; ')}`)
    const secrets = [...new Set(found.flatMap((one) => one.secrets.map(({ where }) => where)))]
    if (secrets.length > 0) line(`  ${styled('yellow', `secrets: ${printable(secrets.join(', '))}`)}`)
    if ('cannot' in is) line(`  cannot be brought along: ${printable(is.cannot)}`)
    else for (const note of is.notes) line(`  ${printable(note)}`)
  }
}

async function choose(offers: readonly Offer[], flags: Flags): Promise<readonly Offer[]> {
  if (!process.stdin.isTTY || flags.json) {
    throw new ChaperoneError('usage', 'Nobody is here to be asked.', { fix: 'Name the servers, or say --all; to look only: --scan' })
  }
  const chosen: Offer[] = []
  for (const offer of offers) if (/^y(?:es)?$/i.test((await ask(`Bring ${printable(offer.name)} along? [y/N] `)) ?? '')) chosen.push(offer)
  return chosen
}

/** Asked beforehand: to try without the right to is a refusal, and stands in the record as one. */
async function may(api: Api): Promise<boolean> {
  for (const verb of ['apply', 'secrets']) {
    if ((await api.call<Explained>('POST', '/v1/explain', { kind: 'chaperone', verb })).verdict !== 'allow') return false
  }
  return true
}

/** The files stay as they are until somebody has said yes and the server is there: nobody is cut off by asking. */
async function request(api: Api, offers: readonly Offer[], flags: Flags): Promise<void> {
  const asked: { name: string; id: string }[] = []
  for (const { name, is } of offers) {
    if (!('wish' in is)) continue
    const { id } = await api.call<{ id: string }>('POST', '/v1/requests', {
      kind: 'server',
      ...is.wish,
      reason: flags.ask ?? 'found in the files of my clients',
    })
    asked.push({ name, id })
    if (!flags.json) {
      line(`Asked for ${printable(name)}: ${id}.`)
      if (is.secrets.size > 0) line(`  It needs ${[...is.secrets.keys()].join(', ')}: give them to whoever adds it, not by chat or mail.`)
    }
  }
  if (flags.json) printJson({ asked })
  else line('Your files are as they were. When the servers are there: chaperone mcp import')
}

function catalogOf(api: Api, me: string, flags: Flags): Catalog {
  return {
    visible: async () => (await api.call<{ resources: { name: string }[] }>('GET', '/v1/resources/mcp')).resources.map(({ name }) => name),
    async document(name) {
      try {
        return { spec: (await api.call<Document>('GET', `/v1/documents/mcp/${segment(name)}`)).spec as Readonly<Record<string, unknown>> }
      } catch (cause) {
        if (toChaperoneError(cause).code === 'not_found') return undefined
        throw cause
      }
    },
    secrets: async () =>
      (await api.call<UpstreamCredentials>('GET', '/v1/upstream-credentials')).credentials
        .filter(({ kind }) => kind === 'sealed' || kind === 'elsewhere')
        .map(({ kind, name, setBy, usedBy }) => ({ name, own: kind === 'sealed' && setBy === me, used: usedBy.length > 0 })),
    putSecret: async (name, value) => void (await api.call('PUT', `/v1/secrets/${segment(name)}`, { value })),
    deleteSecret: async (name) => void (await api.call('DELETE', `/v1/secrets/${segment(name)}`)),
    add: (wish) => addServer(api, wish, flags),
  }
}

/** An import has no flags for what a server needs. What is added with them is known again by its program or address. */
export function addedByHand({ name, spec }: ServerWish): string {
  const { command, env = {} } = spec as { readonly command?: readonly string[]; readonly env?: Readonly<Record<string, unknown>> }
  if (command === undefined) return 'Run this again when it answers.'
  const given = Object.entries(env).map(([key, value]) => {
    const { secret } = (value ?? {}) as { readonly secret?: string }
    return `--env ${shellWord(printable(`${key}=${secret === undefined ? value : `secret:${secret}`}`))} `
  })
  const program = command.map((word) => shellWord(printable(word))).join(' ')
  return `Add it with what it needs (--read, --write), and run this again: chaperone mcp add --name ${name} ${given.join('')}--read FOLDER --apply -- ${program}`
}

/** As `mcp add --apply` does it: looked at, shown, applied, and what was shown is confirmed. */
async function addServer(api: Api, wish: ServerWish, flags: Flags): Promise<boolean> {
  const { apply, look, show } = await import('./mcp-add.ts')
  const { serverYaml } = await import('./mcp-yaml.ts')
  const options = { scan: true, ...(flags.flagged ? { flagged: true } : {}), ...(flags.json ? { json: true } : {}) }
  const scan = await look(api, wish, addedByHand(wish))
  if (!flags.json) await show(wish, scan, options)
  try {
    await apply(api, wish, scan, serverYaml(wish, scan), 'mcp import', options, undefined)
    return true
  } catch (cause) {
    if (toChaperoneError(cause).message === 'Nothing was applied.') return false
    throw cause
  }
}

const STATES: Readonly<Record<Brought['state'], string>> = {
  moved: 'goes through Chaperone now',
  declined: 'left as it was: you did not want it',
  not_visible:
    'is in the catalog, but no role of yours speaks of it. Its files are as they were: apply a role with `allow: [{ mcp: NAME, tools: ["*"] }]`, give it to yourself, and run this again',
  failed: 'left as it was',
}

function conclude(brought: readonly Brought[], journal: string | undefined, journals: Journals, flags: Flags): void {
  const failed = brought.find(({ error }) => error)?.error
  if (failed) process.exitCode = REASONS[failed.code].exit
  if (flags.json) {
    printJson({
      servers: brought.map(({ name, state, files, notes, error }) => ({
        name,
        state,
        files,
        notes,
        ...(error ? { error: { code: error.code, message: error.message } } : {}),
      })),
      ...(journal === undefined ? {} : { undo: journal }),
    })
    return
  }
  for (const { name, state, files, notes, error } of brought) {
    line(`${printable(name)}: ${STATES[state]}${files.length > 0 ? ` (${files.map(printable).join(', ')})` : ''}`)
    for (const note of notes) say(note)
    if (error) say(`${error.message}${error.fix === undefined ? '' : ` ${error.fix}`} [${error.code}]`)
  }
  if (journal === undefined) return
  line(`Start your clients again. To go back: chaperone mcp import --undo`)
  line(`Copies of the files, with the secrets, are in ${journals.folder}. When all works: chaperone mcp import --forget`)
  line(
    'What stood in a file was readable by every program of yours, and perhaps in a backup or a repository: have those tokens issued anew where you can.',
  )
}

async function pick(journals: Journals, given: Flags['undo'], only: (journal: Journal) => boolean): Promise<Journal> {
  const all = (await journals.list()).filter(only)
  const one = typeof given === 'string' ? all.find(({ id }) => id === given) : all[0]
  if (one) return one
  throw new ChaperoneError('not_found', typeof given === 'string' ? `There is no import ${given}.` : 'There is no import to go back to.', {
    ...(all.length > 0 ? { fix: `There are: ${all.map(({ id }) => id).join(', ')}` } : {}),
  })
}

async function goBack(journals: Journals, flags: Flags): Promise<void> {
  const journal = await pick(journals, flags.undo, ({ state }) => state !== 'undone')
  const { undo } = await import('../client/importing/bring.ts')
  const done = await undo(journal, journals)
  if (flags.json) return printJson({ id: journal.id, files: done })
  const words = {
    restored: 'is as it was',
    merged: 'has the servers of before again; what was changed since stays',
    untouched: 'has nothing of this import any more, so it was left alone',
  }
  for (const { file, state } of done) line(`${printable(file)} ${words[state]}.`)
  if (done.some(({ state }) => state === 'untouched'))
    line(`What it was before is kept in ${journals.folder}. When you do not need it: chaperone mcp import --forget ${journal.id}`)
  if (journal.secrets.length > 0) line(`Still in the vault: ${journal.secrets.map(printable).join(', ')}. Delete with: chaperone secret delete NAME`)
}

async function throwAway(journals: Journals, flags: Flags): Promise<void> {
  const journal = await pick(journals, flags.forget, () => true)
  const { forget } = await import('../client/importing/bring.ts')
  const copies = await forget(journal, journals)
  if (flags.json) return printJson({ forgotten: journal.id, copies })
  line(`Threw the copies of ${journal.id} away${copies.length > 0 ? `, and ${copies.map(printable).join(', ')}` : ''}.`)
}

/** Nothing is left to bring along: an import that was killed after its last file is done. */
async function finish(journals: Journals): Promise<void> {
  for (const journal of await journals.list()) if (journal.state === 'begun') await journals.save({ ...journal, state: 'done' })
}
