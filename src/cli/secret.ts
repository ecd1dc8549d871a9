import { ChaperoneError } from '../errors.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, list, moment, printable } from './output.ts'
import { ask, readStdin } from './terminal.ts'

type Flags = ServerFlags & { json?: boolean }
interface SecretRow {
  readonly name: string
  readonly createdAt?: number
  readonly updatedAt?: number
}

export const register: Register = (command) => {
  withServer(command.command('set').description('seal a secret, read from stdin; it is never shown again'))
    .argument('<name>', 'under which documents take it: secret:NAME')
    .addHelpText('after', '\nExample:\n  pass show github | chaperone secret set github-token')
    .action(async (name: string, flags: Flags) => {
      // One line end at the end comes from `echo` and editors and is never part of a token.
      const value = process.stdin.isTTY
        ? ((await ask(`Value of ${name} (it is shown while you type): `)) ?? '')
        : (await readStdin()).replace(/\r?\n$/, '')
      if (value === '')
        throw new ChaperoneError('usage', 'The secret is empty.', { fix: `Pipe it in: printf %s "$TOKEN" | chaperone secret set ${name}` })
      await withApi(flags, (api) => api.call('PUT', `/v1/secrets/${segment(name)}`, { value }))
      line(`Sealed ${printable(name)}.`)
    })

  withJson(withServer(command.command('ls').description('names of the sealed secrets'))).action(async (flags: Flags) => {
    const { secrets } = await withApi(flags, (api) => api.call<{ secrets: SecretRow[] }>('GET', '/v1/secrets'))
    list(
      secrets,
      [
        { title: 'NAME', of: (row) => row.name },
        { title: 'CHANGED', of: (row) => moment(row.updatedAt ?? row.createdAt) },
      ],
      { json: flags.json, none: 'No secret is sealed.' },
    )
  })

  withServer(command.command('delete').description('delete a sealed secret'))
    .argument('<name>', 'as `chaperone secret ls` shows it')
    .option('--force', 'also where a document still names it, and fails without it')
    .addHelpText('after', '\nExamples:\n  chaperone secret delete github-token\n  chaperone secret delete github-token --force')
    .action(async (name: string, flags: Flags & { force?: boolean }) => {
      const path = `/v1/secrets/${segment(name)}${flags.force ? '?force=true' : ''}`
      const { usedBy } = await withApi(flags, (api) => api.call<{ usedBy: readonly string[] }>('DELETE', path))
      line(`Deleted ${printable(name)}.${usedBy.length === 0 ? '' : ` Still named by ${printable(usedBy.join(', '))}.`}`)
    })
}
