import { REASONS, toChaperoneError } from '../errors.ts'
import { fail } from './output.ts'

const DIFFERS = 1
/** A fault of ours has exit code 1 elsewhere, which here means something else. */
const FAULT = 10

export const FAULT_CODE = `${FAULT} a fault of Chaperone; others as in \`chaperone --help\`.`

/** Runs a command whose answer is its exit code: 0 for `same`, 1 for `differs`. */
export async function answering(work: () => Promise<'same' | 'differs'>): Promise<void> {
  try {
    process.exitCode = (await work()) === 'same' ? 0 : DIFFERS
  } catch (cause) {
    const error = toChaperoneError(cause)
    fail(error)
    if (REASONS[error.code].exit === DIFFERS) process.exitCode = FAULT
  }
}
