import type { ASTNode } from '@marcbachmann/cel-js'
import { ChaperoneError } from '../errors.ts'

/**
 * Conditions of limits are written by whoever hands something on, an agent too, and the same agent chooses the arguments: with
 * both it could keep this process busy for minutes (measured: 60 lists of one 4 MiB message, added, take 26 s and 2.6 GB). So
 * they can say less than those of a rule, and look at nothing large. Then their time is bounded by their length (rule 11).
 */

/** Of lists and maps more than one pass, or a copy, can be made of nothing that is called here. */
const METHODS = /^(?:contains|startsWith|endsWith|size|lowerAscii|upperAscii|trim|all|exists|exists_one|get[A-Z][A-Za-z]+)$/
const LOOPS: ReadonlySet<string> = new Set(['all', 'exists', 'exists_one'])
/** One argument: characters, and as much as VALUE for each value in it. */
const MOST = 64 * 1024
const VALUE = 4

/** Throws ChaperoneError('invalid_document') for an expression that could take long. */
export function assertLight(node: unknown, inLoop = false): void {
  if (Array.isArray(node)) {
    for (const one of node) assertLight(one, inLoop)
    return
  }
  if (!isNode(node)) return
  const { op, args } = node as { readonly op: string; readonly args: unknown }
  if (inLoop && op === 'id' && args === 'args') throw heavy('inside all() and exists() only what they go through can be read, not `args`')
  if (op === '+' && !(args as unknown[]).some((side) => isNode(side) && side.op === 'value'))
    throw heavy('one side of + is a number or a text that is written there')
  if (op !== 'rcall') {
    assertLight(args, inLoop)
    return
  }
  const [name, receiver, given] = args as [string, unknown, unknown]
  if (!METHODS.test(name)) throw heavy(`${name}() is not available`)
  if (name === 'contains' && readsArgs(given)) throw heavy('contains() looks for what is written there, not for something of `args`')
  assertLight(receiver, inLoop)
  assertLight(given, inLoop || LOOPS.has(name))
}

/** What is too large to be looked at fails when it is read, and then the condition does not hold. */
export function lightly(args: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const large = Object.keys(args).filter((name) => weigh(args[name], MOST) < 0)
  if (large.length === 0) return args
  const light: Record<string, unknown> = { ...args }
  for (const name of large)
    Object.defineProperty(light, name, {
      enumerable: true,
      get() {
        throw new ChaperoneError('policy_error', `The argument ${name} is too large for a condition of a delegation.`)
      },
    })
  return light
}

/** What is left of a weight; negative as soon as nothing is. */
function weigh(value: unknown, left: number): number {
  if (typeof value === 'string') return left - value.length - VALUE
  if (typeof value !== 'object' || value === null) return left - VALUE
  const list = Array.isArray(value)
  let rest = left - VALUE
  for (const name in value) {
    rest = weigh((value as Record<string, unknown>)[name], list ? rest : rest - name.length)
    if (rest < 0) return rest
  }
  return rest
}

const isNode = (part: unknown): part is ASTNode => typeof part === 'object' && part !== null && 'op' in part

function readsArgs(part: unknown): boolean {
  if (Array.isArray(part)) return part.some(readsArgs)
  return isNode(part) && ((part.op === 'id' && part.args === 'args') || readsArgs(part.args))
}

const heavy = (why: string) =>
  new ChaperoneError('invalid_document', `\`where\` of a delegation is not valid: ${why}.`, {
    fix: 'Compare arguments with what is written in the condition, or write a rule in a role.',
  })
