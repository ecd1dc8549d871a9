import { assertAdministratorLeft } from '../api/administrator-left.ts'
import { type GoverningParts, governAgents } from '../identity/govern.ts'
import type { Resource, Vocabulary } from '../policy/types.ts'
import { every } from './every.ts'
import { type Log, logError } from './log.ts'

/** What ends with an owner has ended before; terms are days. */
const EVERY_MS = 60_000

/** Looks through the agents for those that nobody uses, reviews or answers for, until what is returned is called. */
export function openGoverning(
  parts: Omit<GoverningParts, 'administratorLeft' | 'failed'> & {
    readonly vocabularies: readonly Vocabulary[]
    readonly chaperone: Resource
    readonly log: Log
  },
): () => Promise<void> {
  const { store, clock, vocabularies, chaperone, log } = parts
  const failed = (error: unknown) => logError(log, 'governance', error)
  const administratorLeft: GoverningParts['administratorLeft'] = (trx) => assertAdministratorLeft({ store, clock, vocabularies, chaperone }, trx)
  return every(clock, EVERY_MS, () => governAgents({ ...parts, administratorLeft, failed }), failed)
}
