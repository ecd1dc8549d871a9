import type { Command } from 'commander'
import type { AuditDetail } from '../api/audit-contract.ts'
import type { BodyRef, Envelope } from '../audit/record.ts'
import { ruleTitle } from '../policy/rule-title.ts'
import { type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { exposed } from './exposed.ts'
import { factRows } from './facts.ts'
import { line, moment, printable, printableLines, printJson, styled } from './output.ts'

type Facts = Readonly<Record<string, unknown>>

export function registerShow(command: Command): void {
  withJson(withServer(command.command('show').description('one record, with what lies beside it')))
    .argument('<id>', 'as `chaperone audit search` shows it: rec_… or per_…')
    .addHelpText('after', '\nExample:\n  chaperone audit show per_01kaxxxxxxxxxxxxxxxxxxxxxx')
    .action(async (id: string, flags: ServerFlags & { readonly json?: boolean }) => {
      const detail = await withApi(flags, (api) => api.call<AuditDetail>('GET', `/v1/audit/records/${segment(id)}`))
      if (flags.json) return printJson(detail)
      const envelope = detail.envelope as Envelope
      // What is no action has a form of its own for each type.
      if (envelope.action && envelope.decision) story(envelope, detail)
      else line(printableLines(JSON.stringify(envelope, null, 2)))
      line(`leaf hash ${printable(detail.leafHash)}${detail.position === undefined ? '' : `, position ${detail.position}`}`)
      // Evidence: what hides or turns the reading direction around is shown as an escape, not left out.
      for (const body of detail.bodies) {
        const ref = envelope.bodies?.find(({ name }) => name === body.name)
        line(`\n${styled('bold', printable(body.name))}${ref ? styled('dim', printable(aside(ref))) : ''}`)
        line(body.erased ? '(erased)' : (body.text ?? '').split('\n').map(exposed).join('\n'))
      }
    })
}

/** That a body is not all there was must be seen where it is read. */
function aside({ cut, masked }: BodyRef): string {
  return [
    cut ? ` (cut: ${cut.size} bytes, sha256 ${cut.sha256})` : '',
    masked ? ` (${masked} ${masked === 1 ? 'secret' : 'secrets'} masked)` : '',
  ].join('')
}

function story(envelope: Envelope, { outcome, transaction, approval }: AuditDetail): void {
  const { id, at, type, actor, chain, session, purpose, action, decision, request } = envelope
  const facts = action!.facts ?? {}
  // An intent that had to be asked for was sent on because somebody said yes.
  const used = type === 'action.intent' && decision!.verdict === 'ask'
  const rule = decision!.rule && ruleTitle(decision!.rule)
  const rows: readonly (readonly [string, string | undefined])[] = [
    ['record', `${id}  ${type}  ${moment(at)}`],
    ['who', chain?.map(({ name }) => name).join(' → ') ?? actor?.name],
    ['session', session],
    ['purpose', purpose && `claimed: ${purpose}`],
    ['what', action!.summary],
    ['on', [`${action!.kind}/${action!.resource.name}`, word('database', facts.database), word('as', facts.user)].filter(Boolean).join(', ')],
    ['via', action!.via],
    ...factRows({ effects: action!.effects, facts, ...(action!.unclear === undefined ? {} : { unclear: action!.unclear }) }),
    ['decision', `${used ? 'allowed, approved' : `${decision!.verdict}, ${decision!.reason}`}${rule === undefined ? '' : `: ${rule}`}`],
    ['approved', approval?.by.map(({ name, at, how }) => `by ${name}, ${moment(at)}, ${how}`).join('; ')],
    ['grant', decision!.grant && `${decision!.grant}, a role for a while`],
    ['request', request],
    ...Object.entries(decision!.obligations ?? {}).map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)] as const),
    ['outcome', outcome && outcomeText(outcome)],
    ['transaction', transaction && `${transaction.id}${transaction.ended === undefined ? '' : `, ${transaction.ended}`}`],
  ]
  for (const [name, value] of rows) if (value) line(`${name.padEnd(Math.max(WIDTH, name.length + 2))}${printable(value)}`)
  if (transaction && transaction.statements.length > 1)
    for (const one of transaction.statements)
      line(`${' '.repeat(WIDTH)}${printable(`${one.id === id ? '>' : ' '} ${moment(one.at)}  ${one.outcome.padEnd(7)}  ${one.action}  ${one.id}`)}`)
}

const WIDTH = 13

const word = (before: string, value: unknown) => (typeof value === 'string' ? `${before} ${value}` : '')
/** `ok, 3 rows, 210 bytes, 4 ms`; whatever else is known follows as it is. */
function outcomeText({ status, rows, bytes, ms, sqlstate, capped, rolledBack, transaction, ...rest }: Facts): string {
  return [
    status,
    rows === undefined ? undefined : `${rows} ${rows === 1 ? 'row' : 'rows'}`,
    bytes === undefined ? undefined : `${bytes} bytes`,
    ms === undefined ? undefined : `${ms} ms`,
    sqlstate === undefined ? undefined : `SQLSTATE ${sqlstate}`,
    capped ? 'cut by the rule' : undefined,
    rolledBack ? 'rolled back' : undefined,
    ...Object.entries(rest).map(([name, value]) => `${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`),
  ]
    .filter((part) => part !== undefined)
    .join(', ')
}
