import { Document, isMap, type Pair, Scalar, visit, type YAMLMap } from 'yaml'
import type { McpScan, McpScanned, ServerWish } from '../api/mcp-contract.ts'
import { FLAGS, type Flag, visible } from '../catalog/flag-types.ts'

const FROM = { annotations: 'as the server says', name: 'guessed from its name', default: 'nobody knows, so the worst' } as const

/** What is looked at at one glance; the rest is on the screen, or in `chaperone mcp pins`. */
const FLAGS_OF_ONE = 5

/**
 * The document of a server as a person should find it in Git: beside each tool its proposed effects, where the proposal
 * comes from, and what is odd about it. What a server says stands in comments only with everything that hides made visible.
 */
export function serverYaml({ name, labels, spec }: ServerWish, scan: McpScan | undefined): string {
  // A document cannot have these as keys; such a tool has no confirmed effects, and its flags are on the screen.
  const tools = scan?.items.filter(({ kind, name }) => kind === 'tool' && name !== '__proto__' && !name.includes('\0') && name.isWellFormed()) ?? []
  const written = spec.tools as Record<string, unknown> | undefined
  const proposed = Object.fromEntries(tools.map((tool) => [tool.name, written?.[tool.name] ?? { effects: tool.effects }]))
  const whole = {
    kind: 'mcp',
    name,
    ...(labels && Object.keys(labels).length > 0 ? { labels } : {}),
    spec: tools.length > 0 ? { ...spec, tools: proposed } : spec,
  }
  const document = new Document(whole)
  for (const path of [
    ['spec', 'command'],
    ['spec', 'read'],
    ['spec', 'write'],
  ])
    flow(document.getIn(path))
  const map = document.getIn(['spec', 'tools']) as YAMLMap<Scalar<string>, YAMLMap> | undefined
  for (const tool of tools) {
    const pair = map?.items.find(({ key }) => key.value === tool.name) as Pair<Scalar<string>, YAMLMap> | undefined
    if (pair) annotate(pair, tool, written !== undefined && Object.hasOwn(written, tool.name))
  }
  if (scan) document.commentBefore = ` ${header(scan)}`
  visit(document, {
    Scalar(_, node) {
      if (typeof node.value !== 'string') return
      // Of several lines only a certificate is to be read as such; in a list of words they would look like more words.
      const lines = node.value.includes('\n') && !node.value.startsWith('-----BEGIN ')
      if (lines || hides(node.value)) node.type = Scalar.QUOTE_DOUBLE
    },
  })
  // One line each: a folded flow map would put its comment on another line.
  const text = document.toString({ lineWidth: 0, flowCollectionPadding: false })
  // The library leaves in quotes what nobody sees there; everywhere else nothing is left that hides.
  return [...text].map((letter) => (hides(letter) ? escaped(letter.codePointAt(0)!) : letter)).join('')
}

function header({ about, version, items, flags, more }: McpScan): string {
  const who = visible(about.title ?? about.name ?? 'It', 80)
  const release = about.version === undefined ? '' : ` ${visible(about.version, 40)}`
  const rest = items.filter(({ kind }) => kind !== 'tool')
  return [
    `${who}${release} speaks MCP ${visible(version, 20)}.`,
    ...(rest.length > 0 ? [`It also offers ${counted(rest)}.`] : []),
    ...(more ? ['It offers more than was looked at.'] : []),
    ...flags.map(flagLine),
    ...rest.flatMap((item) => item.flags.map((flag) => `${item.kind} ${visible(item.name, 60)}: ${flagLine(flag)}`)),
    ...(items.some(({ effects }) => effects) ? ['Effects are proposals: what stands here is what you say that each tool does.'] : []),
  ].join('\n ')
}

/** `2 prompts, 1 template and instructions` */
export function counted(items: readonly McpScanned[]): string {
  const parts = (['prompt', 'template'] as const).flatMap((kind) => {
    const count = items.filter((item) => item.kind === kind).length
    return count === 0 ? [] : [`${count} ${kind}${count === 1 ? '' : 's'}`]
  })
  if (items.some(({ kind }) => kind === 'instructions')) parts.push('instructions')
  return parts.join(', ').replace(/, ([^,]*)$/, ' and $1')
}

/** `! hidden_characters in description: …` */
export const flagLine = ({ code, severity, where, excerpt }: Flag): string =>
  `${severity === 'danger' ? '!!' : severity === 'warning' ? '!' : '-'} ${code} in ${visible(where, 80)}: ${FLAGS[code][1]} ${excerpt}`

function annotate({ key, value }: Pair<Scalar<string>, YAMLMap>, tool: McpScanned, byHand: boolean): void {
  if (isMap(value)) {
    value.flow = true
    flow(value.get('effects', true))
    value.comment = byHand ? ' as asked for' : ` ${FROM[tool.effectsFrom ?? 'default']}: ${visible(tool.why ?? '', 120)}`
  }
  const flags = tool.flags.slice(0, FLAGS_OF_ONE).map(flagLine)
  if (tool.flags.length > flags.length) flags.push(`and ${tool.flags.length - flags.length} more`)
  if (flags.length > 0) key.commentBefore = flags.map((line) => ` ${line}`).join('\n')
}

function flow(node: unknown): void {
  if (typeof node === 'object' && node !== null && 'flow' in node) node.flow = true
  else if (typeof node === 'object' && node !== null && 'items' in node) (node as { flow?: boolean }).flow = true
}

const hides = (text: string): boolean => {
  const plain = text.replace(/[\n\t]/g, ' ')
  return visible(plain, Number.POSITIVE_INFINITY) !== plain
}

const escaped = (code: number): string => (code > 0xffff ? `\\U${code.toString(16).padStart(8, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`)
