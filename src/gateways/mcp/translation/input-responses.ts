import { isObject } from '../wire.ts'

const ACTIONS: readonly unknown[] = ['accept', 'decline', 'cancel']

/** Whether a client's answer is one that the method can have. A server of the legacy era would take anything else for our mistake. */
export function isAnswer(method: string, answer: unknown): boolean {
  if (!isObject(answer)) return false
  switch (method) {
    case 'elicitation/create':
      return ACTIONS.includes(answer.action) && (answer.content === undefined || isObject(answer.content))
    case 'sampling/createMessage':
      return typeof answer.role === 'string' && typeof answer.model === 'string' && typeof answer.content === 'object' && answer.content !== null
    case 'roots/list':
      return Array.isArray(answer.roots)
    default:
      return false
  }
}

/** Whether a client that declared these capabilities can be asked this. */
export function canBeAsked(capabilities: Readonly<Record<string, unknown>>, method: string, params: Readonly<Record<string, unknown>>): boolean {
  switch (method) {
    case 'elicitation/create': {
      const modes = capabilities.elicitation
      if (!isObject(modes)) return false
      // `elicitation: {}` is the form of before there were modes.
      return params.mode === 'url' ? isObject(modes.url) : Object.keys(modes).length === 0 || isObject(modes.form)
    }
    case 'sampling/createMessage': {
      const { sampling } = capabilities
      if (!isObject(sampling)) return false
      return (params.tools === undefined && params.toolChoice === undefined) || isObject(sampling.tools)
    }
    case 'roots/list':
      return isObject(capabilities.roots)
    default:
      return false
  }
}
