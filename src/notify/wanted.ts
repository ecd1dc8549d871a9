import type { NotifierSpec, Told } from '../catalog/notifier.ts'
import { compileGlob } from '../encoding/glob.ts'
import type { About } from './story.ts'

/** Whether it lists this event. */
export const listens = ({ on }: Pick<NotifierSpec, 'on'>, what: Told): boolean => on.some((pattern) => compileGlob(pattern)(what))

/** Whether a notifier wants to be told of this. */
export function wanted({ on, for: only }: Pick<NotifierSpec, 'on' | 'for'>, { on: what, approvers, identities, labels }: About): boolean {
  return (
    listens({ on }, what) &&
    (only.approvers === undefined || only.approvers.some((role) => approvers.includes(role))) &&
    (only.requester === undefined || only.requester.some((pattern) => identities.some(compileGlob(pattern)))) &&
    (only.labels === undefined || Object.entries(only.labels).every(([key, value]) => labels?.[key] === value))
  )
}
