import type { Command } from 'commander'
import type { WhoAmI } from '../api/contract.ts'
import type { RequestDecide, RequestDetail, RequestRow } from '../api/requests-contract.ts'
import type { Api } from '../client/api.ts'
import { ChaperoneError } from '../errors.ts'
import { type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { line, printJson } from './output.ts'
import { requestId } from './requests-find.ts'
import { printPaged, requestLines, resultText, reviewedText } from './requests-show.ts'
import { ask } from './terminal.ts'
import { factorText } from './whoami.ts'

type Flags = ServerFlags & { readonly json?: boolean }
interface ApproveFlags extends Flags {
  readonly for?: string
  readonly withAgents?: boolean
  readonly reason?: string
  readonly seen?: string
  readonly yes?: boolean
}

/** What a person does about a request: each takes his own sign-in, and most a second factor. */
export function decisions(command: Command): void {
  withJson(withServer(command.command('approve').description('look at a request, and say yes to exactly that')))
    .argument('<id>', 'of the request, or the end of it')
    .option('--for <duration>', 'a role for a shorter time than was asked for')
    .option('--with-agents', 'a role for those as well who act for the one who asks')
    .option('--reason <text>', 'why; stands in the record')
    .option('--seen <sha256>', '`seen` of what you looked at; when it is another by now, nothing is decided. Required with --yes and --json')
    .option('-y, --yes', 'without asking, for scripts; needs --seen')
    .addHelpText('after', '\nExample:\n  chaperone requests approve 7k3m')
    .action((id: string, flags: ApproveFlags) => withApi(flags, (api) => approve(api, id, flags)))

  withJson(withServer(command.command('deny').description('say no; one no ends a request')))
    .argument('<id>', 'of the request, or the end of it')
    .requiredOption('--reason <text>', 'why; the one who asks reads it')
    .addHelpText('after', '\nExample:\n  chaperone requests deny 7k3m --reason "not during the release"')
    .action((id: string, flags: Flags & { reason: string }) =>
      withApi(flags, async (api) => {
        const { id: whole, seen } = await api.call<RequestDetail>('GET', `/v1/requests/${await requestId(api, id)}`)
        done(await decide(api, whole, { verdict: 'deny', seen, reason: flags.reason }), flags)
        await tellFactor(api, flags)
      }),
    )

  /** The last step of the path is the command's name; what it must be told is the body. */
  const act = (name: string, about: string, option?: readonly [name: string, about: string], text = resultText) => {
    const made = withJson(withServer(command.command(name).description(about))).argument('<id>', 'of the request, or the end of it')
    if (option) made.requiredOption(`--${option[0]} <text>`, option[1])
    made.addHelpText('after', `\nExample:\n  chaperone requests ${name} 7k3m${option ? ` --${option[0]} "…"` : ''}`)
    made.action((id: string, flags: Flags & Readonly<Record<string, string>>) =>
      withApi(flags, async (api) => {
        const body = option ? { [option[0]]: flags[option[0]] } : {}
        done(await api.call<RequestRow>('POST', `/v1/requests/${await requestId(api, id)}/${name}`, body), flags, text)
      }),
    )
  }
  act('withdraw', 'take back what you asked for; also gives back what you were given')
  act('revoke', 'take away what was approved, at once', ['reason', 'why; stands in the record'])
  act('review', 'say that you looked at what was taken without asking (break-glass)', ['note', 'what you found; stands in the record'], reviewedText)
}

async function approve(api: Api, given: string, flags: ApproveFlags): Promise<void> {
  const alone = flags.yes === true || flags.json === true
  const detail = await api.call<RequestDetail>('GET', `/v1/requests/${await requestId(api, given)}`)
  if (detail.state !== 'pending')
    throw new ChaperoneError('conflict', `It is ${detail.state} already.`, { fix: `See: chaperone requests show ${detail.id}` })
  // The server says so as well; who is told now need not look for his telephone first, nor for a terminal.
  if (detail.standing.no !== undefined)
    throw new ChaperoneError('approval_refused', detail.standing.no, {
      fix: `Who decides: ${detail.approvers}. What is asked: chaperone requests show ${detail.id}`,
    })
  if (alone && flags.seen === undefined)
    throw new ChaperoneError('usage', 'Nobody says yes to what nobody has looked at.', {
      fix: 'Look at it with `chaperone requests show ID --json`, and give its `seen` with --seen.',
    })
  if (flags.seen !== undefined && flags.seen !== detail.seen)
    throw new ChaperoneError('conflict', 'It is not what you looked at any more; nothing was decided.', {
      fix: `See: chaperone requests show ${detail.id}`,
    })
  if (!alone) {
    if (!process.stdin.isTTY)
      throw new ChaperoneError('usage', 'Nobody is here to say yes.', {
        fix: 'Run it at a terminal; a script gives --yes, and with --seen what `chaperone requests show ID --json` says.',
      })
    if (!(await printPaged(requestLines(detail)))) throw new ChaperoneError('usage', 'Not all of it was shown; nothing was decided.')
    line()
    const cut = detail.shown.some((part) => part.cut) ? ' It was too long to be shown whole.' : ''
    const answer = await ask(`${detail.standing.confirms ? 'Confirm' : 'Approve'} exactly this?${cut} [y/N] `)
    if (!/^y(?:es)?$/i.test(answer ?? '')) throw new ChaperoneError('usage', 'Nothing was decided.')
  }
  const row = await decide(api, detail.id, {
    verdict: 'approve',
    seen: detail.seen,
    ...(flags.reason === undefined ? {} : { reason: flags.reason }),
    ...(flags.for === undefined ? {} : { for: flags.for }),
    ...(flags.withAgents ? { below: true } : {}),
  })
  done(row, flags)
  await tellFactor(api, flags)
}

/** For minutes the factor of this decision stands for the next one, without asking: so he is told, and which it was. */
async function tellFactor(api: Api, flags: Flags): Promise<void> {
  if (flags.json) return
  const { session } = await api.call<WhoAmI>('GET', '/v1/whoami')
  if (session.factor) line(`Your second factor: ${factorText(session)} for other decisions. A confirmation takes one of its own.`)
}

const decide = (api: Api, id: string, body: RequestDecide): Promise<RequestRow> => api.call<RequestRow>('POST', `/v1/requests/${id}/decide`, body)

function done(row: RequestRow, flags: Flags, text: (row: RequestRow) => string = resultText): void {
  if (flags.json) printJson(row)
  else line(text(row))
}
