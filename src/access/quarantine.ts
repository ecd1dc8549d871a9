import { heldBack, titleOf } from '../catalog/pins.ts'
import type { Action } from '../policy/types.ts'
import type { State } from './state.ts'

/** Why the thing that the action is about waits for an administrator, in one sentence; undefined when it does not. */
export function whyQuarantined(state: Pick<State, 'pins'>, { subject, resource }: Action): string | undefined {
  if (!subject) return undefined
  const held = heldBack(state.pins(resource.id), subject)
  if (held === undefined) return undefined
  const what = titleOf({ kind: subject.kind, name: subject.name.slice(0, 128) })
  const why =
    held === 'new'
      ? `${what} is new on ${resource.name} and nobody has approved it`
      : `The definition of ${what.replace(/^T/, 't')} on ${resource.name} has changed`
  return `${why}; an administrator must look at it (chaperone mcp pins ${resource.name}).`
}
