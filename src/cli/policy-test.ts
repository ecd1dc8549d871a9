import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import type { CaseAction, CaseResult } from '../documents/policy-cases.ts'
import { ChaperoneError } from '../errors.ts'
import { collect, withJson } from './connection.ts'
import { readDocuments } from './documents.ts'
import { line, printable, printJson, problemText, styled } from './output.ts'
import { answering, FAULT_CODE } from './policy-exit.ts'
import { unread } from './unread.ts'

interface Flags {
  readonly file: readonly string[]
  readonly json?: boolean
}

const NOTES = `
A file of cases:

  cases:
    - say: analysts read reports
      as: boris                   # or \`boris > report-bot\`, \`boris/claude-code\`
      do: { mcp: files, tool: read_file, args: { path: /reports/q3.txt } }
      expect: allow               # allow, ask, deny, or a reason such as no_rule
      rule: role analyst, allow rule 1      # optional, as are at, granted and shadow

\`do\` may also be { postgres: prod, database: shop, user: reader, sql: "select 1" } or { chaperone: apply }. Identities come from the
documents, or from \`who\` beside \`cases\`. Without \`at\` it is a Monday at noon, UTC.

Exit codes: 0 all cases hold, 1 some do not, ${FAULT_CODE}`

export function registerPolicyTest(command: Command): void {
  withJson(command.command('test').description('hold files of cases against roles in files; needs no server'))
    .argument('<cases...>', 'files of cases')
    .requiredOption('-f, --file <path>', 'a file or folder with the documents; may be repeated', collect)
    .addHelpText('after', NOTES)
    .action((paths: readonly string[], flags: Flags) =>
      answering(async () => {
        const results = await runFiles(paths, flags.file)
        const failed = results.filter(({ holds }) => !holds)
        if (flags.json) printJson({ cases: results.length, failed: failed.length, results })
        else {
          for (const result of failed) print(result)
          const text = failed.length === 0 ? `${countText(results.length)} held.` : `${failed.length} of ${countText(results.length)} did not hold.`
          line(styled(failed.length === 0 ? 'green' : 'red', text))
        }
        return failed.length === 0 ? 'same' : 'differs'
      }),
    )
}

const countText = (count: number) => (count === 1 ? '1 case' : `${count} cases`)

function print({ file, line: at, say, as, what, differences, message }: CaseResult): void {
  line(`${printable(file)}:${at}: ${printable(say)}`)
  line(`    ${printable(as)}${what === '' ? '' : `: ${printable(what)}`}`)
  for (const { of, expected, is } of differences) {
    line(styled('red', `  - ${of} ${printable(expected)}`))
    line(styled('green', `  + ${of} ${printable(is)}`))
  }
  line(`    ${printable(message)}`)
}

async function runFiles(paths: readonly string[], documents: readonly string[]): Promise<readonly CaseResult[]> {
  const { administer, chaperoneResource, chaperoneVocabulary, PRESETS, VERBS } = await import('../access/administration.ts')
  const { runCases } = await import('../documents/policy-cases.ts')
  const { documentKinds } = await import('../documents/kinds.ts')
  const { readDocuments: parse } = await import('../documents/read.ts')
  const { describeCall } = await import('../gateways/mcp/describe.ts')
  const { mcpVocabulary } = await import('../gateways/mcp/rules.ts')
  const { describeStatement } = await import('../gateways/postgres/explain.ts')
  const { postgresVocabulary } = await import('../gateways/postgres/rules.ts')
  const vocabularies = [chaperoneVocabulary, mcpVocabulary, postgresVocabulary]
  const read = parse(await readDocuments(documents), documentKinds(vocabularies))
  const faults = read.problems.filter(({ level }) => level === 'error')
  for (const problem of faults) process.stderr.write(`${problemText(problem)}\n`)
  if (faults.length > 0)
    throw new ChaperoneError('invalid_document', `The documents have ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}.`)

  const describe = async (done: CaseAction, found: { resource: Parameters<typeof describeCall>[0]['resource']; spec: unknown } | undefined) => {
    if ('chaperone' in done) {
      const verb = VERBS.find((each) => each === done.chaperone)
      if (!verb) throw new ChaperoneError('usage', `${done.chaperone} is no verb of Chaperone.`, { fix: `Known are: ${VERBS.join(', ')}.` })
      return administer(chaperoneResource('chaperone'), verb, verb)
    }
    const { resource, spec } = found!
    if ('mcp' in done)
      return describeCall({ resource, spec: spec as Parameters<typeof describeCall>[0]['spec'], tool: done.tool, args: done.args ?? {} })
    const actions = await describeStatement({ resource, database: done.database, user: done.user, sql: done.sql })
    if (actions.length !== 1) throw new ChaperoneError('usage', `A case has one statement, and this text has ${actions.length}.`)
    return actions[0]!
  }
  const files = await Promise.all(
    paths.map(async (path) => {
      try {
        return { path, text: await readFile(path, 'utf8') }
      } catch (cause) {
        throw unread(path, cause, 'Check the path after `policy test`.')
      }
    }),
  )
  return runCases({ vocabularies, presets: PRESETS, describe }, read.documents, files)
}
