import { type Logger, pino } from 'pino'
import { type ChaperoneError, toChaperoneError } from '../errors.ts'

export type Log = Logger

/** The operator's log: JSON lines on stderr. What happened to whom is in the record; this says how Chaperone itself fares. */
export function makeLog(level: string): Log {
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ dest: 2, sync: false }))
}

/** A failure with what only the operator may see. */
export function logError(log: Log, where: string, error: unknown): void {
  const known: ChaperoneError = toChaperoneError(error)
  log.error({ code: known.code, where, detail: known.detail, fix: known.fix }, known.message)
}
