import { heldBack, titleOf } from '../catalog/pins.ts'
import type { Action } from '../policy/types.ts'
import type { State } from './state.ts'

/** Why the thing that the action is about waits for an administrator, in one sentence; undefined when it does not. */
export function whyQuarantined(state: Pick<State, 'pins'>, { subject, resource }: Action): string | undefined {
  if (!subject) return undefined
  const pins = state.pins(resource.id)
  const held = heldBack(pins, subject)
  if (held === undefined) return undefined
  const what = titleOf({ kind: subject.kind, name: subject.name.slice(0, 128) })
  if (!pins.get(subject.kind, subject.name)) {
    // The server never listed it, and perhaps has no such thing.
    const look = pins.waits ? `; see what waits for an administrator (chaperone mcp pins ${resource.name})` : ''
    return `${what} is not one of the definitions that were approved on ${resource.name}${look}.`
  }
  const why =
    held === 'new'
      ? `${what} is new on ${resource.name} and nobody has approved it`
      : `The definition of ${what.replace(/^T/, 't')} on ${resource.name} has changed`
  return `${why}; an administrator must look at it (chaperone mcp pins ${resource.name}).`
}
