import type { AuditLog, Draft } from '../audit/record.ts'
import { toChaperoneError } from '../errors.ts'
import { knocksFrom } from './knocking.ts'

/** Runs `work`; when it fails, the refusal is on record before the caller hears of it. */
export type Recorded = <T>(type: Draft['type'], who: Partial<Draft>, work: () => Promise<T>) => Promise<T>

export function recordRefusals(audit: Pick<AuditLog, 'append'>): Recorded {
  return async (type, who, work) => {
    try {
      return await work()
    } catch (error) {
      const { code } = toChaperoneError(error)
      const from = who.session === undefined ? knocksFrom() : undefined
      const data = { ...who.data, reason: code, ...(from === undefined ? {} : { from }) }
      await audit.append({ type, ...who, outcome: { status: 'refused', reason: code }, data })
      throw error
    }
  }
}
