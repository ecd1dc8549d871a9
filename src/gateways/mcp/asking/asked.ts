import type { Admission, Asking } from '../../../access/types.ts'
import type { PinBook } from '../../../catalog/pin-book.ts'
import type { Action } from '../../../policy/types.ts'
import type { Annotations } from '../describe.ts'
import type { Server } from '../lanes.ts'
import type { TaskOwner } from '../tasks.ts'
import type { Request } from '../wire.ts'
import { type Described, describedBy, exactCall } from './exact-call.ts'
import type { Round } from './rounds.ts'

/** What is known of a request beside its text. */
export interface Known {
  readonly annotations: Annotations | undefined
  readonly round: Round | undefined
  /** whose task it is about */
  readonly task: TaskOwner | undefined
  /** the question that is on record for this wait already */
  readonly known?: string | undefined
}

/** How a human would be asked about a request; nothing for what only every client needs. */
export function makeAsking(pins: Pick<PinBook, 'of' | 'row'>) {
  /** What its approver reads of it beside the call. */
  const describedAs = async (server: Server, { subject }: Action): Promise<Described> => {
    if (subject === undefined || pins.of(server.resource.id).get(subject.kind, subject.name) === undefined) return {}
    return describedBy((await pins.row(server.resource, subject)).approved)
  }

  return (server: Server, message: Request, action: Action, { annotations, round, task, known }: Known): Pick<Admission, 'asking'> => {
    const { method, params } = message
    const call = async () => exactCall(server, message, action, annotations, await describedAs(server, action))
    const asked = (more: Omit<Asking, 'call'>) => ({ asking: { call, ...more } })
    if (task) return task.permit === undefined ? {} : asked({ cannot: TASKS, follows: task.permit })
    if (action.partial) return {}
    const cannot = UNASKED[method]
    if (cannot !== undefined) return asked({ cannot })
    if (round?.kind === 'further') return asked({ cannot: MIDWAY, continues: round.permit })
    // What a person would be shown is the call, and not what was answered to a server in the middle of it.
    if (params.requestState !== undefined || params.inputResponses !== undefined) return asked({ cannot: MIDWAY })
    return asked(known === undefined ? {} : { known })
  }
}

/** Why no human is asked about these, in the words of a refusal. */
const UNASKED: Readonly<Record<string, string>> = {
  'completion/complete':
    'Completions come with every letter that is typed, and each would be a question of its own: nobody is asked about them. Send the call without them.',
  'subscriptions/listen':
    'One yes is one call that runs once, and a stream goes on for as long as it likes: nobody is asked about it. Read the resource instead; a human is asked about that.',
  'resources/subscribe':
    'One yes is one call that runs once, and what a subscription brings has no end: nobody is asked about it. Read the resource instead; a human is asked about that.',
  'resources/unsubscribe': 'Nobody is asked about the end of a subscription, as nobody is about its beginning. It ends with the MCP session.',
}
const TASKS = 'What becomes of a task is told to whose call made it, while that call is allowed.'
const MIDWAY = 'It is a further round of a call that no approval let run. Begin the call again, without requestState and inputResponses.'
