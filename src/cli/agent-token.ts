import type { Command } from 'commander'
import type { Invitation } from '../api/contract.ts'
import type { JoinWay } from '../api/join-contract.ts'
import type { Api } from '../client/api.ts'
import { ChaperoneError } from '../errors.ts'
import { parseInvitation } from '../identity/invitations.ts'
import { type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, moment, printJson } from './output.ts'

type Flags = ServerFlags & { json?: boolean; ttl?: string; how?: string }

/** `chaperone agent token` */
export function token(command: Command): void {
  withJson(withServer(command.command('token').description('how an agent signs in: a join token that works once, or the line of a join document')))
    .argument('<name>', 'name of an agent that was applied')
    .option('--ttl <duration>', 'how long the token may be used, at most 7d; default: 24h')
    .option('--how <document>', 'by this join document: prints the whole command, with a token where one makes a new key known')
    .addHelpText('after', '\nExamples:\n  chaperone agent token report-bot --ttl 10m\n  chaperone agent token report-bot --how build-machine')
    .action(async (name: string, flags: Flags) => {
      const { how } = flags
      if (how !== undefined) return await withApi(flags, (api) => byDocument(api, name, how, flags))
      const made = await withApi(flags, (api) => makeToken(api, name, flags))
      if (flags.json) return printJson(made)
      line(`chaperone agent join '${made.invitation}'`)
      process.stderr.write(`It works once, until ${moment(made.expiresAt)}.\n`)
    })
}

const makeToken = (api: Api, name: string, { ttl }: Flags) =>
  api.call<Invitation>('POST', '/v1/invitations', { name, ...(ttl === undefined ? {} : { ttl }) })

async function byDocument(api: Api, name: string, how: string, flags: Flags): Promise<void> {
  const way = await api.call<JoinWay>('GET', `/v1/joins/${segment(how)}`)
  if (way.agent !== name)
    throw new ChaperoneError('usage', `Whoever joins by ${how} is ${way.agent}, not ${name}.`, {
      fix: `chaperone agent token ${way.agent} --how ${how}`,
    })
  const made = way.registers ? await makeToken(api, name, flags) : undefined
  if (flags.json) return printJson({ ...way, ...(made ? { token: parseInvitation(made.invitation).secret, expiresAt: made.expiresAt } : {}) })
  line(
    `chaperone agent join --method ${way.method} --as ${way.name} --join '${way.server}'${made ? ` --register ${parseInvitation(made.invitation).secret}` : ''}`,
  )
  if (made) process.stderr.write(`The token makes one key known, until ${moment(made.expiresAt)}.\n`)
  else if (way.method === 'bound-key')
    process.stderr.write(`Its keys stand in the document. The machine prints one with: chaperone agent key --as ${way.name} --key-file FILE\n`)
}
