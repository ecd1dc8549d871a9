import { type Document, isMap, isSeq, LineCounter, parseDocument } from 'yaml'
import { z } from 'zod'
import { ChaperoneError, REASONS, toChaperoneError } from '../errors.ts'
import { compilePolicy, type Policy } from '../policy/compile.ts'
import { decide } from '../policy/decide.ts'
import { ruleTitle } from '../policy/rule-title.ts'
import type { Action, Decision, Identity, Link, Resource, Vocabulary } from '../policy/types.ts'
import { READ_LIMITS } from './read.ts'
import type { ParsedDocument, SourceFile } from './types.ts'

/** Monday noon: cases that do not say when must not fail at the weekend. */
const CASE_TIME = Date.UTC(2026, 0, 5, 12)

const name = z.string().min(1).max(130)
const doSchema = z.union([
  z.strictObject({ mcp: name, tool: z.string().min(1), args: z.record(z.string(), z.unknown()).optional() }),
  z.strictObject({ postgres: name, database: name, user: name, sql: z.string().min(1) }),
  z.strictObject({ chaperone: name }),
])
const caseSchema = z.strictObject({
  say: z.string().min(1).max(200),
  as: z.string().min(1).max(500),
  do: doSchema,
  at: z.string().optional(),
  granted: z.array(name).max(20).optional(),
  expect: z.string().min(1),
  rule: z.string().optional(),
  shadow: z.string().optional(),
})
const whoSchema = z.strictObject({
  kind: z.enum(['user', 'agent']).optional(),
  owner: name.optional(),
  roles: z.array(name).optional(),
  traits: z.record(z.string(), z.unknown()).optional(),
})
const fileSchema = z.strictObject({ who: z.record(name, whoSchema).optional(), cases: z.array(caseSchema).min(1).max(5000) })

/** What a case does, as written. */
export type CaseAction = z.infer<typeof doSchema>
type Case = z.infer<typeof caseSchema>
type Who = z.infer<typeof whoSchema>

export interface CaseParts {
  readonly vocabularies: readonly Vocabulary[]
  /** Roles that are there from the start. */
  readonly presets: readonly { readonly name: string; readonly spec: unknown }[]
  /** The action that a gateway would make of it. `found`: the document of its resource. Throws ChaperoneError. */
  describe(done: CaseAction, found: { readonly resource: Resource; readonly spec: unknown } | undefined): Promise<Action>
}

export interface CaseResult {
  readonly file: string
  readonly line: number
  readonly say: string
  readonly holds: boolean
  readonly as: string
  readonly what: string
  /** pairs of what was expected and what it is, for those that differ */
  readonly differences: readonly { readonly of: 'verdict' | 'rule' | 'shadow'; readonly expected: string; readonly is: string }[]
  /** why it is so */
  readonly message: string
}

/** Runs the cases of these files against the roles and guardrails among the documents. Pure but for the parser of SQL. Throws `usage` for files that are none. */
export async function runCases(parts: CaseParts, documents: readonly ParsedDocument[], files: readonly SourceFile[]): Promise<readonly CaseResult[]> {
  const of = (kind: string) => documents.filter((document) => document.kind === kind)
  const roles = [...parts.presets.filter((preset) => !of('role').some((role) => role.name === preset.name)), ...of('role')]
  const policy = compilePolicy({ roles, guardrails: of('guardrail') }, parts.vocabularies)
  const results: CaseResult[] = []
  for (const file of files) {
    const { who = {}, cases, lineOf } = readCases(file)
    const people = new Map([
      ...[...of('user'), ...of('agent')].map((document): [string, Who] => [document.name, fromDocument(document)]),
      ...Object.entries(who),
    ])
    for (const [i, each] of cases.entries()) results.push(await run(parts, policy, documents, people, each, file.path, lineOf(i)))
  }
  return results
}

async function run(
  parts: CaseParts,
  policy: Policy,
  documents: readonly ParsedDocument[],
  people: ReadonlyMap<string, Who>,
  each: Case,
  file: string,
  line: number,
): Promise<CaseResult> {
  const about = { file, line, say: each.say, as: each.as }
  try {
    const links = linksOf(each, people)
    const kind = 'mcp' in each.do ? 'mcp' : 'postgres' in each.do ? 'postgres' : undefined
    const document = kind && documents.find((one) => one.kind === kind && one.name === (each.do as Record<string, unknown>)[kind])
    if (kind && !document)
      throw new ChaperoneError('usage', `There is no ${kind} resource of that name among the files.`, {
        fix: 'Give the folder with its document too: -f DIR.',
      })
    const found = document && {
      resource: { kind: document.kind, id: document.name, name: document.name, labels: document.labels },
      spec: document.spec,
    }
    const action = await parts.describe(each.do, found)
    const now = each.at === undefined ? CASE_TIME : Date.parse(each.at)
    if (!Number.isFinite(now)) throw new ChaperoneError('usage', `${each.at} is no time.`, { fix: 'Write 2026-11-23T10:00:00Z.' })
    const decision = decide(policy, { links, action, now, session: { id: 'ses_case', startedAt: now, how: 'login' } })
    const differences = differencesOf(each, decision)
    const what = `${action.summary} on ${action.kind}/${action.kind === 'chaperone' ? 'chaperone' : action.resource.name}`
    return { ...about, what, holds: differences.length === 0, differences, message: messageOf(decision) }
  } catch (thrown) {
    const error = toChaperoneError(thrown)
    if (error.code === 'internal') throw error
    return {
      ...about,
      what: '',
      holds: false,
      differences: [{ of: 'verdict', expected: each.expect, is: 'it cannot be judged' }],
      message: error.message,
    }
  }
}

const messageOf = ({ verdict, message, rule, reason }: Decision) => (verdict === 'allow' ? message : rule ? `${ruleTitle(rule)} (${reason})` : reason)

function differencesOf(each: Case, decision: Decision): CaseResult['differences'] {
  const verdicts = ['allow', 'ask', 'deny']
  if (!verdicts.includes(each.expect) && !Object.hasOwn(REASONS, each.expect))
    throw new ChaperoneError('usage', `\`expect: ${each.expect}\` is neither allow, ask, deny nor a reason code.`)
  const rule = decision.rule ? ruleTitle(decision.rule) : 'no rule'
  const shadow = decision.shadow ? `${decision.shadow.verdict}: ${ruleTitle(decision.shadow.rule)}` : 'none'
  const pairs = [
    { of: 'verdict', expected: each.expect, is: verdicts.includes(each.expect) ? decision.verdict : decision.reason },
    ...(each.rule === undefined ? [] : [{ of: 'rule', expected: each.rule, is: rule } as const]),
    ...(each.shadow === undefined ? [] : [{ of: 'shadow', expected: each.shadow, is: shadow } as const]),
  ] as const
  return pairs.filter(({ expected, is }) => expected !== is)
}

/** `boris > report-bot`; a client of a person (`boris/claude-code`) acts for him without being told. */
function linksOf({ as, granted = [], at }: Case, people: ReadonlyMap<string, Who>): readonly Link[] {
  const written = as.split('>').map((each) => each.trim())
  const [first = ''] = written
  const names = first.includes('/') ? [first.slice(0, first.indexOf('/')), ...written] : written
  const links = names.map((each): Link => ({ identity: identityOf(each, people) }))
  const until = (at === undefined ? CASE_TIME : Date.parse(at)) + 1
  return links.map((link, i) =>
    i === links.length - 1 && granted.length > 0 ? { ...link, grants: granted.map((role) => ({ role, request: 'req_case', until })) } : link,
  )
}

function identityOf(called: string, people: ReadonlyMap<string, Who>): Identity {
  const person = called.includes('/') ? called.slice(0, called.indexOf('/')) : undefined
  const known = people.get(called)
  if (!known && person === undefined)
    throw new ChaperoneError('usage', `Nobody knows ${called}.`, { fix: 'Name somebody of the files, or write who it is below `who`.' })
  const owner = known?.owner ?? person
  // A client of a person inherits what he may do, unless its own document says less.
  const roles = known?.roles ?? (person === undefined ? [] : (people.get(person)?.roles ?? []))
  const kind = known?.kind ?? (person === undefined ? 'user' : 'agent')
  return { id: called, kind, name: called, traits: known?.traits ?? {}, roles, ...(owner === undefined ? {} : { ownerId: owner }) }
}

function fromDocument({ kind, spec }: ParsedDocument): Who {
  const { roles, traits, owner } = spec as { roles?: unknown; traits?: Record<string, unknown>; owner?: string }
  return {
    kind: kind as 'user' | 'agent',
    ...(Array.isArray(roles) ? { roles: roles as string[] } : {}),
    ...(traits ? { traits } : {}),
    ...(owner === undefined ? {} : { owner }),
  }
}

function readCases({ path, text }: SourceFile): z.infer<typeof fileSchema> & { lineOf(index: number): number } {
  if (Buffer.byteLength(text) > READ_LIMITS.fileBytes)
    throw new ChaperoneError('too_large', `${path} is larger than ${READ_LIMITS.fileBytes / 1024} KiB.`)
  const lines = new LineCounter()
  const document: Document = parseDocument(text, { lineCounter: lines, version: '1.2', schema: 'core', merge: false })
  const fault = document.errors[0]
  if (fault) throw new ChaperoneError('usage', `${path}: ${fault.message.split('\n')[0]}`)
  const parsed = fileSchema.safeParse(plain(document, path))
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new ChaperoneError('usage', `${path}: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'it holds no cases'}`, {
      fix: 'A file of cases has `cases:`, each with say, as, do and expect.',
    })
  }
  const list = isMap(document.contents) ? document.contents.get('cases') : undefined
  const lineOf = (index: number) => {
    const node = isSeq(list) ? list.items[index] : undefined
    const offset = (node as { range?: readonly number[] } | undefined)?.range?.[0] ?? 0
    return Math.max(1, lines.linePos(offset).line)
  }
  return { ...parsed.data, lineOf }
}

/** Anchors have no place in cases: what a case says stands where it is read. */
function plain(document: Document, path: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 0 })
  } catch (cause) {
    throw new ChaperoneError('usage', `${path}: aliases are not read here.`, { cause })
  }
}
