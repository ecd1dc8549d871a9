import type { ASTNode } from '@marcbachmann/cel-js'
import { ChaperoneError } from '../errors.ts'

/**
 * Conditions of limits are written by whoever hands something on, an agent too, and the same agent chooses the arguments. So they can
 * say less than those of a rule: nothing here takes a time that grows faster than what it looks at. What that may cost is bounded
 * besides, as for every condition (where-meter.ts).
 */

/** Of lists and maps more than one pass, or a copy, can be made of nothing that is called here. */
const METHODS = /^(?:contains|startsWith|endsWith|size|lowerAscii|upperAscii|trim|all|exists|exists_one|get[A-Z][A-Za-z]+)$/
const LOOPS: ReadonlySet<string> = new Set(['all', 'exists', 'exists_one'])

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

const isNode = (part: unknown): part is ASTNode => typeof part === 'object' && part !== null && 'op' in part

function readsArgs(part: unknown): boolean {
  if (Array.isArray(part)) return part.some(readsArgs)
  return isNode(part) && ((part.op === 'id' && part.args === 'args') || readsArgs(part.args))
}

const heavy = (why: string) =>
  new ChaperoneError('invalid_document', `\`where\` of a delegation is not valid: ${why}.`, {
    fix: 'Compare arguments with what is written in the condition, or write a rule in a role.',
  })
