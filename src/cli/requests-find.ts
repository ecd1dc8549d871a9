import type { RequestRow } from '../api/requests-contract.ts'
import type { Api } from '../client/api.ts'
import { ChaperoneError } from '../errors.ts'
import { isId } from '../ids.ts'

const FEWEST = 4

/** The id that a text is, or is the end of, among what the caller may see. Throws `not_found`, `usage`. */
export async function requestId(api: Api, text: string): Promise<string> {
  const whole: unknown = text
  if (isId('req', whole)) return whole
  if (!/^[0-9a-z_]+$/.test(text) || text.length < FEWEST)
    throw new ChaperoneError('usage', `${text} is no id of a request.`, {
      fix: `Give the id, or at least its last ${FEWEST} letters. See: chaperone requests ls`,
    })
  const { requests } = await api.call<{ requests: RequestRow[] }>('GET', '/v1/requests?limit=500')
  const found = requests.filter(({ id }) => id.endsWith(text))
  if (found.length > 1)
    throw new ChaperoneError('usage', `${found.length} requests end with ${text}.`, {
      fix: `Give more of it: ${found
        .slice(0, 5)
        .map(({ id }) => id)
        .join(', ')}`,
    })
  if (!found[0]) throw new ChaperoneError('not_found', `No request that you may see ends with ${text}.`, { fix: 'See: chaperone requests ls' })
  return found[0].id
}
