import type { OauthClientSpec } from '../catalog/oauth-client.ts'
import { identityFaults } from './references.ts'
import type { Fault, PlainDocument } from './types.ts'
import type { World } from './world.ts'

/** What of a client does not fit to the other documents. */
export function* oauthClientInWorld({ name, spec }: PlainDocument, world: World): Generator<Fault> {
  const { agent, client_id, directories = [], profile } = spec as unknown as OauthClientSpec
  yield* identityFaults(agent, ['spec', 'agent'], world)
  if (agent !== undefined && world.identities.get(agent)?.kind === 'user')
    yield { path: ['spec', 'agent'], message: `\`${agent}\` is a person, and people sign in.`, fix: 'Name an agent.' }
  for (const [i, directory] of directories.entries())
    if (!world.documents.has(`directory/${directory}`))
      yield { path: ['spec', 'directories', i], message: `There is no directory \`${directory}\`.`, fix: 'Apply it first, or together with this.' }
  if (profile !== undefined && !world.documents.has(`profile/${profile}`))
    yield { path: ['spec', 'profile'], message: `There is no profile \`${profile}\`.`, fix: 'Apply it first, or together with this.' }
  const twin = world.ofKind('oauth-client').find((one) => one.name !== name && one.spec.client_id === client_id)
  if (twin) yield { path: ['spec', 'client_id'], message: `\`${twin.name}\` has the same client_id.`, fix: 'Write one document of it.' }
  const oauth = world.documents.get(`agent/${client_id}`)?.spec.oauth
  if (oauth !== undefined)
    yield { path: ['spec', 'client_id'], message: `The agent \`${client_id}\` is the client of this name already.`, fix: 'Choose another client_id.' }
}
