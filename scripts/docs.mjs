/**
 * npm run docs [-- --check]: writes docs/reference/*.md from the code: the commands, the reason codes, the schemas of
 * options and documents, and the kinds of record. --check changes nothing and fails when a page is out of date.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { chaperoneVocabulary } from '../src/access/administration.ts'
import { auditReference } from '../src/audit/reference.ts'
import { directorySpec } from '../src/catalog/directory.ts'
import { mcpServerSpec } from '../src/catalog/mcp-server.ts'
import { oauthClientSpec } from '../src/catalog/oauth-client.ts'
import { postgresDatabaseSpec } from '../src/catalog/postgres-database.ts'
import { wholeProgram } from '../src/cli/main.ts'
import { agentSpec, userSpec } from '../src/documents/kinds.ts'
import { REASONS } from '../src/errors.ts'
import { MESSAGE_FACTS } from '../src/gateways/mcp/recorded.ts'
import { mcpVocabulary } from '../src/gateways/mcp/rules.ts'
import { STATEMENT_FACTS, STATEMENT_OUTCOME } from '../src/gateways/postgres/record/reference.ts'
import { postgresVocabulary } from '../src/gateways/postgres/rules.ts'
import { awsSpec } from '../src/identity/joining/aws.ts'
import { boundKeySpec } from '../src/identity/joining/bound-key.ts'
import { joinSpec } from '../src/identity/joining/document.ts'
import { githubSpec } from '../src/identity/joining/github.ts'
import { gitlabSpec } from '../src/identity/joining/gitlab.ts'
import { kubernetesSpec } from '../src/identity/joining/kubernetes.ts'
import { oidcSpec } from '../src/identity/joining/oidc.ts'
import { x509Spec } from '../src/identity/joining/x509.ts'
import { guardrailSchema } from '../src/policy/guardrail.ts'
import { roleSchema } from '../src/policy/role.ts'
import { serverOptions } from '../src/server/options.ts'
import { root } from './bootstrap.mjs'

const cell = (text) =>
  String(text)
    .replaceAll('|', '\\|')
    .replace(/\s*\n\s*/g, ' ')
const code = (text) => (text === '' ? '' : `\`${cell(text)}\``)
const table = (head, rows) =>
  [`| ${head.join(' | ')} |`, `|${head.map(() => '---').join('|')}|`, ...rows.map((row) => `| ${row.join(' | ')} |`)].join('\n')
const madeFrom = (source) => `<!-- Made from ${source} by scripts/docs.mjs. Do not edit: run \`npm run docs\`. -->`

function cli(program) {
  const sections = []
  const walk = (command, path) => {
    const help = command.createHelp()
    const name = [...path, command.name()].join(' ')
    if (command.commands.length === 0) {
      const rows = [
        ...help.visibleArguments(command).map((argument) => [code(`<${argument.name()}>`), cell(argument.description)]),
        ...command.options.map((option) => {
          const usual = option.defaultValue === undefined ? '' : ` (default: ${option.defaultValue})`
          return [code(option.flags), cell(option.description + usual + (option.mandatory ? ' (required)' : ''))]
        }),
      ]
      sections.push(
        `## ${name}\n\n${sentence(command.description())}\n\n\`\`\`\n${[...path, command.name(), usageOf(command)].join(' ')}\n\`\`\`${rows.length > 0 ? `\n\n${table(['', 'meaning'], rows)}` : ''}`,
      )
    } else if (path.length > 0) {
      const shared = command.options.map((option) => [code(option.flags), cell(option.description)])
      if (shared.length > 0) sections.push(`## ${name}\n\n${sentence(command.description())} For all of them:\n\n${table(['', 'meaning'], shared)}`)
    }
    for (const child of command.commands) walk(child, [...path, command.name()])
  }
  walk(program, [])
  const exits = new Map()
  for (const [name, { exit }] of Object.entries(REASONS)) exits.set(exit, [...(exits.get(exit) ?? []), name])
  const rows = [...exits].sort(([a], [b]) => a - b).map(([exit, names]) => [exit, names.map(code).join(', ')])
  return `# Commands

${madeFrom('src/cli/')}

\`chaperone --help\` lists the commands, \`chaperone COMMAND --help\` explains one. Every listing has \`--json\`. Colour is left out
with \`NO_COLOR\` and into a pipe. What is said to a person goes to stderr, what is for a pipe to stdout.

## Exit codes

${table(['code', 'when'], rows)}

\`chaperone diff\`: 0 nothing would change, 1 something would, 10 a fault of Chaperone.

## Environment

${table(
  ['variable', 'meaning'],
  [
    [code('CHAPERONE_HOME'), 'folder of the credentials; default `$XDG_CONFIG_HOME/chaperone`, on macOS `~/Library/Application Support/chaperone`'],
    [code('CHAPERONE_TOTP'), 'the second factor, where one is needed and nobody is there to be asked'],
    [code('CHAPERONE_DEBUG'), 'print the detail of a fault of Chaperone itself'],
    [code('NO_COLOR'), 'no colour'],
  ],
)}

${sections.join('\n\n')}
`
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`
const usageOf = (command) => command.usage().trim()

function errors() {
  const rows = Object.entries(REASONS).map(([name, reason]) => [
    code(name),
    reason.http,
    reason.jsonrpc,
    code(reason.sqlstate),
    reason.exit,
    cell(reason.meaning),
  ])
  return `# Reason codes

${madeFrom('src/errors.ts')}

The same code stands in the error that a client sees, in the record, on the command line and here. A refusal to somebody who may
not know of a resource says \`not_found\`; the record has the true reason.

${table(['code', 'HTTP', 'JSON-RPC', 'SQLSTATE', 'exit', 'meaning'], rows)}
`
}

/** What may be written, in few words, of one JSON Schema. */
function form(schema) {
  if (schema.const !== undefined) return `\`${JSON.stringify(schema.const)}\``
  if (schema.enum) return schema.enum.map((value) => `\`${value}\``).join(', ')
  const any = schema.anyOf ?? schema.oneOf
  if (any) return [...new Set(any.map(form))].join(' or ')
  if (schema.type === 'array' && (schema.items?.anyOf ?? [schema.items]).every((item) => item?.properties?.where)) return 'list of rules, see below'
  if (schema.type === 'array') return `list of ${form(schema.items ?? {})}`
  if (schema.type === 'object') {
    const keys = Object.keys(schema.properties ?? {})
    if (keys.length > 0) return `\`{ ${keys.join(', ')} }\``
    return schema.additionalProperties && typeof schema.additionalProperties === 'object' ? `name: ${form(schema.additionalProperties)}` : 'object'
  }
  return schema.type === undefined ? 'any value' : String(schema.type)
}

/** `usual`: defaults that the schema does not know, because whoever calls it fills them in. */
function fields(schema, { usual = {}, name = (key) => key } = {}) {
  const json = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
  return Object.entries(json.properties ?? {}).map(([key, value]) => {
    const preset = usual[key] ?? (value.default === undefined ? '' : `\`${JSON.stringify(value.default)}\``)
    const whenAbsent = preset === '' && json.required?.includes(key) ? '**required**' : cell(preset)
    return [code(name(key)), cell(form(value)), whenAbsent, cell(value.description ?? '')]
  })
}

const JOIN_BLOCKS = [
  ['oidc', oidcSpec],
  ['github', githubSpec],
  ['gitlab', gitlabSpec],
  ['kubernetes', kubernetesSpec],
  ['aws', awsSpec],
  ['bound-key', boundKeySpec],
  ['x509', x509Spec],
]

const HEAD = ['field', 'form', 'default', 'meaning']
const flag = (key) => `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`

function configuration() {
  const vocabularies = [mcpVocabulary, postgresVocabulary, chaperoneVocabulary]
  const words = vocabularies.map((vocabulary) => {
    const rows = fields(vocabulary.fields)
    return `### Rules of \`${vocabulary.kind}\`\n\nIn \`allow\` and \`ask\` at least one of ${vocabulary.what.map(code).join(', ')} must be written. Obligations: ${Object.keys(vocabulary.obligations).map(code).join(', ') || 'none'}.\n\n${table(HEAD, rows)}`
  })
  return `# Configuration

${madeFrom('the schemas in src/server/options.ts, src/documents/, src/catalog/, src/policy/ and src/gateways/')}

## \`chaperone up\`

${table(['flag', 'form', 'default', 'meaning'], fields(serverOptions, { name: flag, usual: { dataDir: '`$XDG_DATA_HOME/chaperone`' } }))}

## Documents

Every document has \`kind\`, \`name\`, optional \`labels\` and a \`spec\`; several stand in one file, parted by \`---\`.

### \`kind: user\`

${table(HEAD, fields(userSpec))}

### \`kind: agent\`

${table(HEAD, fields(agentSpec))}

### \`kind: directory\`

${table(HEAD, fields(directorySpec))}

### \`kind: join\`

${table(HEAD, fields(joinSpec))}

${JOIN_BLOCKS.map(([name, block]) => `In \`${name}\`:\n\n${table(HEAD, fields(block))}`).join('\n\n')}

### \`kind: oauth-client\`

${table(HEAD, fields(oauthClientSpec))}

### \`kind: mcp\`

${table(HEAD, fields(mcpServerSpec))}

### \`kind: postgres\`

${table(HEAD, fields(postgresDatabaseSpec))}

### \`kind: role\`

${table(HEAD, fields(roleSchema(vocabularies)))}

### \`kind: guardrail\`

${table(HEAD, fields(guardrailSchema(vocabularies)))}

Each rule names its resource under its kind (\`- mcp: files\`, \`- postgres: { labels: { env: prod } }\`, \`any\`), may carry \`where\` (CEL), and the words of
its kind:

${words.join('\n\n')}
`
}

const pages = {
  'cli.md': cli(await wholeProgram()),
  'errors.md': errors(),
  'configuration.md': configuration(),
  'audit-events.md': auditReference([
    { kind: 'postgres', facts: STATEMENT_FACTS, outcome: STATEMENT_OUTCOME },
    { kind: 'mcp', facts: MESSAGE_FACTS },
  ]),
}
const folder = join(root, 'docs', 'reference')
mkdirSync(folder, { recursive: true })
const stale = Object.entries(pages).filter(([name, text]) => {
  try {
    return readFileSync(join(folder, name), 'utf8') !== text
  } catch {
    return true
  }
})
if (process.argv.includes('--check')) {
  for (const [name] of stale) console.error(`docs/reference/${name} is out of date: run \`npm run docs\` and commit it`)
  process.exitCode = stale.length === 0 ? 0 : 1
} else for (const [name, text] of stale) writeFileSync(join(folder, name), text)
