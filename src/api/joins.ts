import { ChaperoneError } from '../errors.ts'
import { blockOf, type JoinSpec } from '../identity/joining/document.ts'
import { formatServerLine } from '../identity/joining/line.ts'
import { reachable } from './address.ts'
import type { JoinWay } from './join-contract.ts'
import { ownsAgent } from './owned.ts'
import type { ApiParts } from './parts.ts'
import { type Asked, type Route, signedIn } from './route.ts'

/** How somebody joins by a document: what stands in a workflow or a manifest. None of it is a secret. */
export function joinRoutes(parts: ApiParts): readonly Route[] {
  const { state, ca, listeners, trustDomain } = parts
  const specOf = ({ params }: Pick<Asked<unknown>, 'params'>) => state.current().find('join', params.name ?? '')?.spec as JoinSpec | undefined
  return [
    signedIn({
      method: 'GET',
      path: '/v1/joins/:name',
      summary: ({ params }) => `how to join by ${params.name}`,
      who: {
        by: 'verbs',
        anyOf: ['apply', 'issue'],
        own: { when: 'otherwise', test: (asked) => ownsAgent(parts, asked, specOf(asked)?.agent) },
      },
      async handle(asked): Promise<JoinWay> {
        const spec = specOf(asked)
        if (!spec) throw new ChaperoneError('not_found', 'There is no join document of that name.', { fix: 'chaperone get join' })
        const audience = spec.audience ?? `https://${trustDomain}`
        const address = reachable(listeners().data, asked.host)
        const registers = spec.method === 'bound-key' && (blockOf(spec) as { readonly register: boolean }).register
        return {
          name: asked.params.name ?? '',
          agent: spec.agent,
          method: spec.method,
          audience,
          server: formatServerLine({ address, fingerprint: await ca.fingerprint('server'), audience }),
          registers,
        }
      },
    }),
  ]
}
