import type { Abilities } from '../../api/runs-contract.ts'
import type { Fence } from './isolation.ts'

/** What the person, or the log of a daemon, reads before the program begins: one screen. Pure. */
export interface SummaryAsk {
  readonly name: string
  /** on whose behalf */
  readonly behalf?: string
  readonly command: readonly string[]
  /** the time of day at which it ends, and why then */
  readonly until: string
  readonly fence: Fence
  readonly abilities: Abilities
  /** names of servers whose tools are not known */
  readonly unlisted: readonly string[]
  readonly services: readonly {
    readonly service: string
    readonly database: { readonly resource: string; readonly database: string; readonly user?: string }
  }[]
  /** What stands in the way of what was asked for, each with the line that would change it. */
  readonly missing: readonly Missing[]
  readonly limits: readonly string[]
  readonly stripped: readonly string[]
}

export interface Missing {
  readonly text: string
  readonly fix: string
}

/** More lines than that of one kind are counted, not shown. */
const MOST_LINES = 8
const MOST_NAMES = 6

export function summaryLines(ask: SummaryAsk): readonly string[] {
  const { name, behalf, command, until, fence, abilities, services, missing } = ask
  const servers = abilities.servers.map(({ name: server, allowed, asks }) => {
    const parts = [
      ...(allowed.length > 0 ? [names(allowed)] : []),
      ...(asks.length > 0 ? [`asks a human first: ${names(asks)}`] : []),
      ...(allowed.length + asks.length === 0 ? [ask.unlisted.includes(server) ? 'not known yet, see below' : 'none that may be used'] : []),
    ]
    return `${server}: ${parts.join('; ')}`
  })
  const databases = services.map(
    ({ service, database }) => `${database.resource}/${database.database}${database.user ? ` as ${database.user}` : ''}: service=${service}`,
  )
  const ways = abilities.may_request.map(
    ({ role, for_at_most, resources }) =>
      `${role}${resources.length > 0 ? ` on ${names(resources)}` : ''}${for_at_most ? `, at most ${for_at_most}` : ''}: chaperone requests ask ${role} --reason "…"`,
  )
  return [
    `${name}${behalf === undefined ? '' : `, on behalf of ${behalf},`} runs ${command.join(' ')} until ${until}`,
    ...block('limits', ask.limits),
    ...block('tools', servers.length > 0 ? servers : ['none']),
    ...block('databases', databases),
    ...block('may ask', ways),
    ...block('fence', [fenceText(fence), ...(ask.stripped.length > 0 ? [`not passed on: ${names(ask.stripped)} (--env NAME passes one on)`] : [])]),
    ...block(
      'missing',
      missing.map(({ text, fix }) => `${text}. ${fix}`),
    ),
  ]
}

function fenceText({ how, network }: Fence): string {
  if (how === 'none') return 'none: the program can do what you can'
  return network === 'chaperone'
    ? 'bubblewrap: no network but Chaperone, no files but this folder (--network open, --read, --write)'
    : "bubblewrap: the machine as it is, without Chaperone's own keys and other processes"
}

function block(title: string, lines: readonly string[]): string[] {
  const shown = lines.length > MOST_LINES ? [...lines.slice(0, MOST_LINES - 1), `and ${lines.length - MOST_LINES + 1} more`] : lines
  return shown.map((line, i) => `  ${(i === 0 ? title : '').padEnd(10)} ${line}`)
}

const names = (all: readonly string[]) =>
  all.length > MOST_NAMES ? `${all.slice(0, MOST_NAMES).join(', ')} and ${all.length - MOST_NAMES} more` : all.join(', ')
