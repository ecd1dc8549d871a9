import { type ASTNode, Environment } from '@marcbachmann/cel-js'
import { ChaperoneError } from '../errors.ts'
import type { Identity, Question, Resource } from './types.ts'
import { Budget, inItsWords, makePay, RULES_UNITS, withPaidFunctions } from './where-meter.ts'

/** What `where:` reads besides `args`. Classes, because CEL checks the fields of a class when the rule is loaded. */
class IdentityView {
  readonly id: string
  readonly kind: string
  readonly name: string
  readonly ownerId: string | undefined
  readonly traits: Readonly<Record<string, unknown>>
  readonly roles: readonly string[]
  constructor(from: Identity, budget: Budget) {
    this.id = from.id
    this.kind = from.kind
    this.name = from.name
    this.ownerId = from.ownerId
    this.traits = budget.meter(from.traits)
    this.roles = budget.meter(from.roles)
  }
}

class ResourceView {
  readonly id: string
  readonly kind: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  constructor(from: Resource, budget: Budget) {
    this.id = from.id
    this.kind = from.kind
    this.name = from.name
    this.labels = budget.meter(from.labels)
  }
}

class SessionView {
  readonly id: string
  readonly how: string
  readonly purpose: string | undefined
  readonly startedAt: Date
  constructor(from: Question['session']) {
    this.id = from.id
    this.how = from.how
    this.purpose = from.purpose
    this.startedAt = new Date(from.startedAt)
  }
}

/** Far above what a person reads, far below what slows a decision. */
const LIMITS = { maxAstNodes: 300, maxDepth: 32, maxListElements: 200, maxMapEntries: 50, maxCallArguments: 8 }
const LONGEST = 2000

const environment = withPaidFunctions(new Environment({ unlistedVariablesAreDyn: false, limits: LIMITS }))
  .registerType('Identity', {
    ctor: IdentityView,
    fields: { id: 'string', kind: 'string', name: 'string', ownerId: 'string', traits: 'map<string, dyn>', roles: 'list<string>' },
  })
  .registerType('Resource', { ctor: ResourceView, fields: { id: 'string', kind: 'string', name: 'string', labels: 'map<string, string>' } })
  .registerType('Session', {
    ctor: SessionView,
    fields: { id: 'string', how: 'string', purpose: 'string', startedAt: 'google.protobuf.Timestamp' },
  })
  .registerVariable('identity', 'Identity')
  .registerVariable('resource', 'Resource')
  .registerVariable('session', 'Session')
  .registerVariable('args', 'map<string, dyn>')
  .registerVariable('time', 'google.protobuf.Timestamp')

export interface WhereScope {
  readonly identity: IdentityView
  readonly resource: ResourceView
  readonly session: SessionView
  readonly args: Readonly<Record<string, unknown>>
  readonly time: Date
  /** What all conditions that read it may cost together. */
  readonly budget: Budget
}

/** `args` is what the vocabulary's `variables` gives for the action. */
export function whereScope(question: Question, identity: Identity, args: Readonly<Record<string, unknown>>, units = RULES_UNITS): WhereScope {
  return scopeOver(new Budget(units), { ...question, identity, args, resource: question.action.resource })
}

function scopeOver(
  budget: Budget,
  of: Pick<Question, 'session' | 'now'> & { readonly identity: Identity; readonly resource: Resource; readonly args: WhereScope['args'] },
): WhereScope {
  return {
    identity: new IdentityView(of.identity, budget),
    resource: new ResourceView(of.resource, budget),
    session: new SessionView(of.session),
    args: budget.meter(of.args),
    time: new Date(of.now),
    budget,
  }
}

const NOTHING: Resource = { kind: '', id: '', name: '', labels: {} }

/** For conditions on a request, in which no action is judged: they cannot read `resource` (see `readsResource`). */
export function askedScope(
  asked: Pick<Question, 'session' | 'now'> & { readonly identity: Identity },
  args: Readonly<Record<string, unknown>>,
): WhereScope {
  return scopeOver(new Budget(RULES_UNITS), { ...asked, resource: NOTHING, args })
}

export interface Where {
  /** Throws when the expression fails or gives no boolean. */
  test(scope: WhereScope): boolean
  /** It may answer differently for the same call later, or in another session: then nothing may be cached. */
  readonly readsTimeOrSession: boolean
  readonly readsArgs: boolean
  readonly readsResource: boolean
  /** What it reads below `args`, once each; not what it asks about first, with `has()` or `in`: that it is there is no assumption then. */
  readonly reads: readonly (readonly string[])[]
}

/** Functions over lists; one inside another takes time that grows with the square of what a caller sends (rule 11). */
const LOOPS = new Set(['all', 'exists', 'exists_one', 'map', 'filter'])
/** `matches` runs a backtracking regex over a caller's text; `bind` can double a text again and again. */
const FORBIDDEN = new Set(['matches', 'bind'])

/** A CEL expression, checked for syntax, names and types; and by `check`, which throws. Throws ChaperoneError('invalid_document'). */
export function compileWhere(source: string, check?: (ast: unknown) => void): Where {
  if (source.length > LONGEST) throw invalid(`it is over ${LONGEST} characters`)
  let program: ReturnType<Environment['parse']>
  try {
    program = environment.parse(source)
  } catch (error) {
    throw invalid(firstLine(error), error)
  }
  const variables = new Set<string>()
  check?.(program.ast)
  const repeated = inspect(program.ast, false, variables)
  const checked = program.check()
  if (!checked.valid) throw invalid(firstLine(checked.error), checked.error)
  if (checked.type !== 'bool' && checked.type !== 'dyn') throw invalid(`it gives ${checked.type}, not true or false`)
  return {
    readsTimeOrSession: variables.has('time') || variables.has('session'),
    readsArgs: variables.has('args'),
    readsResource: variables.has('resource'),
    reads: readsBelowArgs(program.ast),
    test(scope) {
      const result: unknown = scope.budget.try(repeated, () => program(scope))
      if (typeof result !== 'boolean') throw new ChaperoneError('policy_error', '`where` gave no boolean.')
      return result
    },
  }
}

const invalid = (why: string, cause?: unknown) =>
  new ChaperoneError('invalid_document', `\`where\` is not valid: ${why}.`, {
    fix: 'Write a CEL expression over identity, resource, args, session and time that is true or false.',
    cause,
  })

const firstLine = (error: unknown) => inItsWords(error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)).replace(/\.$/, '')

/** Returns how many of its parts may be gone through again for each thing that is read: those of a loop, and additions of lists. */
function inspect(part: unknown, inLoop: boolean, variables: Set<string>): number {
  if (Array.isArray(part)) return part.reduce((sum: number, item) => sum + inspect(item, inLoop, variables), 0)
  if (typeof part !== 'object' || part === null || !('op' in part)) return 0
  const node = part as ASTNode
  const { op, args } = node
  let looping = inLoop
  if (op === 'id') variables.add(args)
  if (op === 'call' || op === 'rcall') {
    const name = args[0]
    if (FORBIDDEN.has(name)) throw invalid(`${name}() is not available`)
    if (op === 'rcall' && LOOPS.has(name)) {
      if (inLoop) throw invalid(`${name}() stands inside another loop`)
      looping = true
    }
  }
  makePay(node)
  return (inLoop || op === '+' ? 1 : 0) + inspect(args, looping, variables)
}

/** The chains of names that begin at `args`: `args.a["b"]` is `['a', 'b']`. A chain ends where its next step is computed. */
function readsBelowArgs(ast: unknown): string[][] {
  const found = new Map<string, string[]>()
  const asked = new Set<string>()
  const chainOf = (node: unknown): { readonly steps: readonly string[]; readonly open: boolean } | undefined => {
    if (typeof node !== 'object' || node === null || !('op' in node)) return undefined
    const { op, args } = node as { op: string; args: unknown }
    if (op === 'id') return args === 'args' ? { steps: [], open: true } : undefined
    if ((op !== '.' && op !== '[]') || !Array.isArray(args)) return undefined
    const before = chainOf(args[0])
    if (!before?.open) return before
    const step: unknown =
      op === '.' ? args[1] : (args[1] as { op?: string; args?: unknown }).op === 'value' ? (args[1] as { args: unknown }).args : undefined
    return typeof step === 'string' ? { steps: [...before.steps, step], open: true } : { ...before, open: false }
  }
  const walk = (node: unknown): void => {
    if (Array.isArray(node)) {
      for (const item of node) walk(item)
      return
    }
    if (typeof node !== 'object' || node === null || !('op' in node)) return
    const { op, args } = node as { op: string; args: unknown }
    if (op === 'call' && Array.isArray(args) && args[0] === 'has') {
      for (const one of Array.isArray(args[1]) ? args[1] : []) asked.add(JSON.stringify(chainOf(one)?.steps ?? []))
      return
    }
    if (op === 'in' && Array.isArray(args)) {
      const [key, map] = args as { op?: string; args?: unknown }[]
      const chain = chainOf(map)
      if (chain && key?.op === 'value') asked.add(JSON.stringify([...chain.steps, key.args]))
    }
    const chain = chainOf(node)
    if (chain) {
      if (chain.steps.length > 0) found.set(JSON.stringify(chain.steps), [...chain.steps])
      // What stands in brackets may read arguments too.
      if (op === '[]') walk((args as unknown[])[1])
      return
    }
    walk(args)
  }
  walk(ast)
  return [...found.values()].filter((steps) => !steps.some((_, i) => asked.has(JSON.stringify(steps.slice(0, i + 1)))))
}
