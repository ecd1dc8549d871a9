import type { Command } from 'commander'
import type { AccessAsk, RequestRow, RequestWay } from '../api/requests-contract.ts'
import { systemClock } from '../clock.ts'
import { formatDuration, parseDuration } from '../encoding/duration.ts'
import { ChaperoneError } from '../errors.ts'
import { type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { decisionOf, notGranted } from './decision.ts'
import { line, list, moment, printable, printJson } from './output.ts'
import { resultText } from './requests-show.ts'

type Flags = ServerFlags & { readonly json?: boolean }
interface AskFlags extends Flags {
  readonly for?: string
  readonly on?: string
  readonly reason?: string
  readonly purpose?: string
  readonly start?: string
  readonly breakGlass?: boolean
  readonly wait?: boolean
}

export function asking(command: Command): void {
  withJson(withServer(command.command('ways').description('what you may ask for'))).action(async (flags: Flags) => {
    const { ways } = await withApi(flags, (api) => api.call<{ ways: RequestWay[] }>('GET', '/v1/requests/ways'))
    list(
      ways,
      [
        { title: 'ROLE', of: (way) => way.role },
        { title: 'FOR UP TO', of: (way) => (way.maxMs === undefined ? undefined : formatDuration(way.maxMs)) },
        { title: 'ON', of: (way) => way.resources.map(({ kind, name }) => `${kind}/${name}`).join(', ') },
        { title: 'REASON', of: (way) => (typeof way.reason === 'object' ? `like ${way.reason.pattern}` : way.reason) },
        { title: 'ASKED BY', of: (way) => way.by },
      ],
      { json: flags.json, none: 'There is nothing that you may ask for.' },
    )
  })

  withJson(withServer(command.command('ask').description('ask for a role for a while')))
    .argument('<role>', 'see: chaperone requests ways')
    .option('--for <duration>', 'for how long, such as 10m; default: as long as may be asked for')
    .option('--on <kind/name>', 'on this resource alone, such as postgres/orders')
    .option('--reason <text>', 'why; who decides reads it. Required where `requests ways` says so; without it the purpose counts')
    .option('--purpose <text>', 'what it is for, where the session has not said it; stands in every record')
    .option('--start <time>', 'from then on: `2026-11-23T09:00Z`, or `30m` from now')
    .option('--break-glass', 'take it at once; everybody is told, and somebody looks at it afterwards')
    .option('--wait', 'wait for the decision')
    .addHelpText('after', '\nExample:\n  chaperone requests ask orders-writer --for 10m --on postgres/orders --reason "refund of order 17" --wait')
    .action(async (role: string, flags: AskFlags) => {
      const body = wishOf(role, flags)
      const asked = await withApi(flags, (api) => api.call<RequestRow>('POST', '/v1/requests', body))
      if (!flags.json) tell(asked)
      const row = flags.wait && asked.state === 'pending' ? await decisionOf(asked.id, flags) : asked
      if (flags.json) printJson(row)
      else if (row !== asked && row.state === 'approved') line(resultText(row))
      if (row.state !== 'pending' && row.state !== 'approved') throw notGranted(row)
    })
}

function wishOf(role: string, flags: AskFlags): AccessAsk {
  const on = flags.on?.split('/')
  if (on && (on.length !== 2 || on.includes('')))
    throw new ChaperoneError('usage', `${flags.on} is not kind/name.`, { fix: 'For example: --on postgres/orders' })
  return {
    kind: 'access',
    role,
    ...(on ? { resource: { kind: on[0]!, name: on[1]! } } : {}),
    ...(flags.for === undefined ? {} : { for: flags.for }),
    ...(flags.start === undefined ? {} : { startsAt: startOf(flags.start) }),
    ...(flags.reason === undefined ? {} : { reason: flags.reason }),
    ...(flags.purpose === undefined ? {} : { purpose: flags.purpose }),
    ...(flags.breakGlass ? { breakGlass: true } : {}),
  }
}

/** A moment with its zone, or so much from now. */
function startOf(text: string): number {
  if (/^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:\d{2})$/.test(text) && !Number.isNaN(Date.parse(text))) return Date.parse(text)
  try {
    return systemClock.now() + parseDuration(text)
  } catch (cause) {
    throw new ChaperoneError('usage', `${text} is no time.`, { fix: 'Write 2026-11-23T09:00Z, or 30m for half an hour from now.', cause })
  }
}

function tell(row: RequestRow): void {
  line(resultText(row))
  if (row.reasonFrom !== undefined)
    line(`  reason     none was given, so the purpose${row.reasonFrom === 'session' ? ' of the session' : ''} counts: ${printable(row.reason)}`)
  if (row.state === 'pending') {
    line(`  link       ${printable(row.url)}`)
    line(`  take back  chaperone requests withdraw ${row.id}`)
  }
  if (row.access?.breakGlass && row.reviewDue !== undefined)
    line(`  It was taken without asking: everybody who may approve is told, and somebody looks at it until ${moment(row.reviewDue)}.`)
}
