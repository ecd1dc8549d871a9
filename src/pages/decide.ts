import { LONGEST_NOTE } from '../access/requests/limits.ts'
import type { Decide } from '../access/requests/types.ts'
import { ChaperoneError } from '../errors.ts'

/** What a person decides, as his form says it. The same text is what a passkey signs, so it is read in one place. Throws `usage`. */
export function decisionIn(field: (name: string) => string | undefined): Decide {
  const [verdict, seen, time] = [field('verdict'), field('seen') ?? '', field('for') ?? '']
  const reason = (field('reason') ?? '').replace(/\r\n/g, '\n').trim()
  if (verdict !== 'approve' && verdict !== 'deny') throw new ChaperoneError('usage', 'Say yes or no.')
  if (!/^[0-9a-f]{64}$/.test(seen)) throw new ChaperoneError('usage', 'The form does not say what was shown.', { fix: 'Load the page again.' })
  if (!/^(?:[1-9]\d{0,11})?$/.test(time)) throw new ChaperoneError('usage', 'How long is not a time.')
  if (reason.length > LONGEST_NOTE) throw new ChaperoneError('usage', `A reason has at most ${LONGEST_NOTE} characters.`)
  return {
    verdict,
    seen,
    ...(reason === '' ? {} : { reason }),
    ...(time === '' ? {} : { forMs: Number(time) }),
    ...(field('below') === 'yes' ? { below: true } : {}),
    how: 'browser',
  }
}
