import type { IdentityRow, Invitation } from '../api/contract.ts'
import { openProfiles } from '../client/profile.ts'
import { join } from '../client/sign-in.ts'
import type { Register } from './commands.ts'
import { query, type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, list, moment, printJson } from './output.ts'

type Flags = ServerFlags & { json?: boolean }

export const register: Register = (command) => {
  withJson(withServer(command.command('ls').description('list the agents')))
    .option('--all', 'users and nodes too')
    .action(async (flags: Flags & { all?: boolean }) => {
      const path = `/v1/identities${query({ kind: flags.all ? undefined : 'agent' })}`
      const { identities } = await withApi(flags, (api) => api.call<{ identities: IdentityRow[] }>('GET', path))
      list(
        identities,
        [
          { title: 'NAME', of: (row) => row.name },
          { title: 'KIND', of: (row) => row.kind },
          { title: 'OWNER', of: (row) => row.owner },
          { title: 'STATE', of: (row) => row.state },
          { title: 'ROLES', of: (row) => (row.roles === 'inherit' ? 'those of its owner' : row.roles.join(', ')) },
          { title: 'SINCE', of: (row) => moment(row.createdAt) },
        ],
        { json: flags.json, none: 'There are no agents.' },
      )
    })

  withJson(withServer(command.command('token').description('make a join token, with which an agent signs in once')))
    .argument('<name>', 'name of an agent that was applied')
    .option('--ttl <duration>', 'how long it may be used, at most 7d; default: 24h')
    .addHelpText('after', '\nExample:\n  chaperone agent token report-bot --ttl 10m')
    .action(async (name: string, flags: Flags & { ttl?: string }) => {
      const made = await withApi(flags, (api) =>
        api.call<Invitation>('POST', '/v1/invitations', { name, ...(flags.ttl === undefined ? {} : { ttl: flags.ttl }) }),
      )
      if (flags.json) return printJson(made)
      line(`chaperone agent join '${made.invitation}'`)
      process.stderr.write(`It works once, until ${moment(made.expiresAt)}.\n`)
    })

  withJson(command.command('join').description('sign this machine in as an agent, with a join token'))
    .argument('<token>', 'the line that begins with chaperone://, in quotes')
    .option('--purpose <text>', 'what the agent is about to do; stands in every record')
    .option('--ttl <duration>', 'life of each credential, 30s to 12h; default: 3m')
    .addHelpText('after', '\nExample:\n  chaperone agent join --purpose "the monthly report" "chaperone://…"')
    .action(async (token: string, flags: { json?: boolean; purpose?: string; ttl?: string }) => {
      const { purpose, ttl } = flags
      const profile = await join(token, { ...(purpose === undefined ? {} : { purpose }), ...(ttl === undefined ? {} : { ttl }) })
      const profiles = openProfiles()
      await profiles.save(profile, { use: true })
      if (flags.json) return printJson({ name: profile.identity.name, address: profile.address, notAfter: profile.notAfter, home: profiles.home })
      line(`Signed in as ${profile.identity.name} at ${profile.address} until ${moment(profile.notAfter)}; what runs on it renews it.`)
    })

  for (const [verb, state, summary] of [
    ['disable', 'disabled', 'stop an identity at once, and until it is enabled again'],
    ['enable', 'active', 'let a disabled identity work again'],
  ] as const) {
    withJson(withServer(command.command(verb).description(summary)))
      .argument('<name>', 'of an agent or a user')
      .addHelpText('after', `\nExample:\n  chaperone agent ${verb} report-bot`)
      .action(async (name: string, flags: Flags) => {
        const row = await withApi(flags, (api) => api.call<IdentityRow>('POST', `/v1/identities/${segment(name)}/state`, { state }))
        if (flags.json) return printJson(row)
        line(`${row.kind} ${row.name} is ${row.state}.`)
      })
  }
}
