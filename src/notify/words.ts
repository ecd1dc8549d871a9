import { askedInSentence } from '../access/requests/words.ts'
import { momentText } from '../encoding/moment.ts'
import { cut } from './plain-text.ts'
import type { RequestStory, Story } from './types.ts'

const whatOf = ({ kind, call, ...asked }: RequestStory): string => askedInSentence({ ...asked, kind, summary: call?.summary })

const SAID: Readonly<Record<Story['on'], (who: string, what: string, by: string) => string>> = {
  'request.made': (who, what) => `${who} asks for ${what}`,
  'request.voted': (who, what, by) => `${by} said yes or no to ${who}: ${what}`,
  'request.approved': (who, what, by) => `Approved by ${by}: ${what}, for ${who}`,
  'request.denied': (who, what, by) => `Denied by ${by}: ${what}, for ${who}`,
  'request.expired': (who, what) => `Expired: ${what}, for ${who}`,
  'request.withdrawn': (who, what) => `Withdrawn: ${what}, for ${who}`,
  'request.used': (who, what) => `Used: ${what}, by ${who}`,
  'request.revoked': (who, what, by) => `Taken away by ${by}: ${what}, from ${who}`,
  'request.unknown': (who, what) => `Nobody knows what came of ${what}, by ${who}`,
  'request.escalated': (who, what) => `Nobody has answered: ${who} asks for ${what}`,
  'request.broke_glass': (who, what) => `BREAK-GLASS: ${who} took ${what} without asking`,
  'request.reviewed': (who, what, by) => `Reviewed by ${by}: break-glass of ${who}, ${what}`,
  'request.review_overdue': (who, what) => `OVERDUE: nobody has reviewed the break-glass of ${who}, ${what}`,
  'lock.made': (who, what, by) => `Locked by ${by}: ${what}${who}`,
  'lock.lifted': (who, what, by) => `Lock lifted by ${by}: ${what}${who}`,
  'agent.due': (who, what) => `Will be stopped: the agent ${who}, ${what}`,
  'agent.stopped': (who, what) => `Stopped: the agent ${who}, ${what}`,
  'directory.refused': (who, what) => `Refused: the directory ${who} would have taken away the last administrator (${what})`,
  'notifier.test': () => 'A test from Chaperone',
}

/** One line. Its words are ours, names, and what is asked for; nothing that the one who asks has written as a text. */
export function titleOf({ on, request, lock, agent, directory }: Story): string {
  const say = SAID[on]
  if (request) return cut(say(request.who.name, whatOf(request), request.by?.name ?? 'a rule'), 300)
  if (lock)
    return cut(say('', `${lock.kind} ${lock.name}`, lock.by?.name ?? (lock.madeBy === undefined ? 'Chaperone' : `the rule ${lock.madeBy}`)), 300)
  if (agent) return cut(say(agent.name, WHY[agent.why], ''), 300)
  if (directory) return cut(say(directory.name, directory.what, ''), 300)
  return say('', '', '')
}

const WHY = { unused: 'which nobody uses', unreviewed: 'which nobody has reviewed in time', owner: 'whose owner is disabled or gone' } as const

/** The facts of it as label and text. `free` marks what somebody else has written. */
export function factsOf({
  request,
  lock,
  agent,
  directory,
  heldBackUntil,
}: Story): readonly { readonly label: string; readonly text: string; readonly free?: true }[] {
  const facts: { label: string; text: string; free?: true }[] = []
  const add = (label: string, text: string | undefined, free?: true) => {
    if (text !== undefined && text !== '') facts.push({ label, text, ...(free ? { free } : {}) })
  }
  if (request) {
    add('Who', request.who.name)
    add('On behalf of', request.onBehalfOf.map(({ name }) => name).join(', '))
    add('What', whatOf(request), true)
    add('Effects', request.call?.effects.join(', '))
    add('Why somebody is asked', request.call?.why)
    add('Reason, as claimed', request.reason, true)
    add('Purpose, as claimed', request.purpose, true)
    add('Who may decide', request.state === 'pending' ? request.approvers : undefined)
    add('By', request.by?.name)
    add('Said', request.byReason, true)
    add('Starts', request.startsAt === undefined ? undefined : momentText(request.startsAt))
    add('Ends', request.endsAt === undefined ? undefined : momentText(request.endsAt))
    add('Answer until', request.state === 'pending' && request.expiresAt !== undefined ? momentText(request.expiresAt) : undefined)
    add('Review until', request.reviewDue === undefined ? undefined : momentText(request.reviewDue))
    for (const { title, text } of request.shown ?? []) add(title, text, true)
  }
  if (lock) {
    add('Lock on', `${lock.kind} ${lock.name}`)
    add('Reason', lock.reason, true)
    add('Until', lock.expiresAt === undefined ? 'it is lifted' : momentText(lock.expiresAt))
    add('By', lock.by?.name ?? lock.madeBy)
  }
  if (directory) {
    add('Directory', directory.name)
    add('Change', directory.what)
    add('To let it', 'make somebody else an administrator, then send it again')
  }
  if (agent) {
    add('Agent', agent.name)
    add('Owner', agent.owner?.name)
    add('Why', WHY[agent.why])
    add('Stops', agent.stopsAt === undefined ? undefined : momentText(agent.stopsAt))
    add('To keep it', agent.stopsAt === undefined ? undefined : `chaperone agent review ${agent.name}`)
  }
  add('More', heldBackUntil === undefined ? undefined : `further ones about the same identity are held back until ${momentText(heldBackUntil)}`)
  return facts
}
