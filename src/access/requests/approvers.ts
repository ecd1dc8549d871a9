import type { ChainLink } from '../../identity/types.ts'
import { approversText } from '../../policy/approval.ts'
import type { ApproverGroup, Approvers } from '../../policy/types.ts'
import type { AccessRequest, Need, Standing } from './types.ts'

/** A person who says yes, or did: as he stands now, not as he stood when he said it. */
export interface Voter {
  readonly id: string
  readonly name: string
  readonly kind: 'user' | 'agent' | 'node'
  /** links of the chain he acts in; a person who decides acts for himself */
  readonly links: number
  /** his own roles, and those he was given for a while */
  readonly roles: readonly string[]
  /** holds the verb `approve` */
  readonly approves: boolean
}

/** Who asked, and who the identities behind it are. */
export interface Asker {
  readonly identityId: string
  readonly chain: readonly ChainLink[]
  /** The operators who issued the credential of the session that asks, and of those that it was made from: each may hold its key. */
  readonly issuers?: ReadonlySet<string>
  person(id: string): { readonly kind: 'user' | 'agent' | 'node'; readonly ownerId?: string | undefined } | undefined
}

/** The person on whose behalf it is asked; nobody when a person asks for himself: his own yes would be worth nothing. */
export function behind({ identityId, chain, person }: Asker, link: string): string | undefined {
  const first = chain[0]?.identity ?? identityId
  const found = person(first)?.kind === 'user' ? first : person(link)?.ownerId
  return found === identityId ? undefined : found
}

/** It is his: he asked, it is asked on his behalf, he owns one of the agents that ask, or issued what they ask with. */
export function isOwn({ identityId, chain, issuers, person }: Asker, id: string): boolean {
  if (identityId === id || issuers?.has(id) || person(identityId)?.ownerId === id) return true
  return chain.some((link) => link.identity === id || person(link.identity)?.ownerId === id)
}

const groupsOf = (approvers: ApproverGroup | { readonly all: readonly ApproverGroup[] }): readonly ApproverGroup[] =>
  'all' in approvers ? approvers.all : [approvers]

function isOf(group: ApproverGroup, voter: Voter): boolean {
  const roles = group.role === undefined ? [] : typeof group.role === 'string' ? [group.role] : group.role
  return roles.some((role) => voter.roles.includes(role)) || (group.users?.includes(voter.name) ?? false)
}

/** What may meet a need: its approvers and, once nobody answered in time, those who stand in. A confirmation never stands in for an approval. */
function waysToMeet(need: Need, escalated: boolean): readonly (Approvers | undefined)[] {
  if (!escalated || !need.escalate) return [need.approvers]
  if (need.escalate.approvers === 'owner' && need.approvers !== 'owner') return [need.approvers]
  return [need.approvers, need.escalate.approvers]
}

/** One person, for one need, by one of its ways. */
function counts(asker: Asker, link: string, approvers: Approvers | undefined, voter: Voter): boolean {
  if (voter.kind !== 'user' || voter.links !== 1 || voter.id === asker.identityId) return false
  if (approvers === 'owner') return voter.id === behind(asker, link)
  if (isOwn(asker, voter.id)) return false
  if (approvers === undefined) return voter.approves
  return groupsOf(approvers).some((group) => isOf(group, voter))
}

function isMetBy(asker: Asker, link: string, approvers: Approvers | undefined, voters: readonly Voter[]): boolean {
  const counted = voters.filter((voter) => counts(asker, link, approvers, voter))
  if (approvers === undefined || approvers === 'owner') return counted.length > 0
  // One seat a yes that is wanted, one person a seat: whoever is of two groups fills one.
  const seats = groupsOf(approvers).flatMap((group) => Array.from({ length: Math.max(1, group.count ?? 1) }, () => group))
  const taken = new Map<Voter, number>()
  const seat = (at: number, tried: Set<Voter>): boolean => {
    for (const voter of counted) {
      if (tried.has(voter) || !isOf(seats[at]!, voter)) continue
      tried.add(voter)
      const other = taken.get(voter)
      if (other === undefined || seat(other, tried)) {
        taken.set(voter, at)
        return true
      }
    }
    return false
  }
  return seats.every((_, at) => seat(at, new Set()))
}

/** Whether these people, each of whom said yes, are enough: every need must be met. Pure. */
export const areMet = (asker: Asker, needs: readonly Need[], voters: readonly Voter[], escalated: boolean): boolean =>
  needs.length > 0 && needs.every((need) => waysToMeet(need, escalated).some((way) => isMetBy(asker, need.link, way, voters)))

/** Where somebody stands to what is asked, whatever its state. Pure. */
export function standingOf(asker: Asker, needs: readonly Need[], voter: Voter, escalated: boolean): Standing {
  const own = isOwn(asker, voter.id)
  const ways = needs.flatMap((need) => waysToMeet(need, escalated).map((way) => ({ way, link: need.link })))
  const his = ways.filter(({ way, link }) => counts(asker, link, way, voter))
  const confirms = own && his.length > 0
  if (his.length > 0) return { own, confirms }
  return { own, confirms, no: whyNot(asker, voter, own, inWords(needs, escalated)) }
}

function whyNot(asker: Asker, voter: Voter, own: boolean, others: string): string {
  if (voter.kind !== 'user')
    return `Only a person decides about requests: ${voter.name} is ${voter.kind === 'agent' ? 'an agent' : 'a node'}, whoever it acts for.`
  if (voter.links !== 1) return 'Only a person himself decides about requests, not what acts for him.'
  if (voter.id === asker.identityId) return 'Nobody decides about his own request.'
  if (asker.issuers?.has(voter.id)) return 'Nobody decides about what is asked with a credential that he issued.'
  if (own && asker.chain.some((link) => link.identity === voter.id))
    return 'Nobody decides about what his own agent asks for: it asks on your behalf.'
  if (own) return 'Nobody decides about what his own agent asks for: an agent of yours is among those who ask.'
  return `Others decide about it: ${others}.`
}

/** Once nobody answered in time, those who stand in as well. Names roles and people that the rule names, which its holder may see. */
function inWords(needs: readonly Need[], escalated: boolean): string {
  const said = needs.map((need) => waysToMeet(need, escalated).map(approversText).join(' or '))
  return [...new Set(said)].join(', and ') || 'nobody'
}

/** Who can say yes to it, in words: for the one who waits, and whoever is told. */
export const whoDecides = ({ kind, needs, escalatedAt }: Pick<AccessRequest, 'kind' | 'needs' | 'escalatedAt'>): string =>
  kind === 'server' ? 'whoever may apply documents' : inWords(needs, escalatedAt !== undefined)
