import type { State } from '../access/state.ts'
import type { AuditLog } from '../audit/record.ts'
import type { SecretSpec } from '../catalog/secret.ts'
import type { Clock } from '../clock.ts'
import { spiffeId } from '../identity/names.ts'
import type { Keyring } from '../keys/types.ts'
import type { Store } from '../store/store.ts'
import { openAssertions, SVID_PATH } from '../vault/assertions.ts'
import { aboutSecret, openCredentialNotes } from '../vault/credential-notes.ts'
import { openLogins } from '../vault/oauth.ts'
import { openOutgoing } from '../vault/outbound.ts'
import { openReferences } from '../vault/references.ts'
import { openVault, type Vault } from '../vault/secrets.ts'
import { type Log, logError } from './log.ts'
import { ownFiles, type ServerOptions } from './options.ts'

interface CredentialsParts {
  readonly store: Store
  readonly keyring: Keyring
  readonly clock: Clock
  readonly audit: Pick<AuditLog, 'append' | 'addSecrets'>
  /** As of now; not asked before everything stands. */
  readonly state: () => State
  readonly options: ServerOptions
  /** where people reach the web listener */
  readonly places: { readonly web: string }
  readonly trustDomain: string
  readonly log: Log
}

/** Everything with which Chaperone shows itself, or a caller, to what is behind it. */
export async function openCredentials({ store, keyring, clock, audit, state, options, places, trustDomain, log }: CredentialsParts) {
  const sealed = openVault(store, keyring, clock)
  sealed.onSet((value) => audit.addSecrets([value]))
  // Opened once, so that what was sealed before this start is masked in records as well.
  for (const { name } of await sealed.list()) await sealed.reveal(name)
  const references = openReferences({
    specOf: (name) => state().find('secret', name)?.spec as SecretSpec | undefined,
    kept: [options.dataDir, ...ownFiles(options)],
    env: process.env,
    clock,
    see: (value) => audit.addSecrets([value]),
  })
  const notes = openCredentialNotes(store, clock, (error) => logError(log, 'notes of credentials', error))
  /** One name space: what a document says is elsewhere, else what is sealed. */
  const vault: Vault = {
    ...sealed,
    async reveal(name) {
      const value = await (references.has(name) ? references : sealed).reveal(name)
      notes.used(aboutSecret(name))
      return value
    },
  }
  const assertions = openAssertions({ keyring, clock, places })
  const svids = openAssertions({ keyring, clock, places, purpose: 'svids', path: SVID_PATH })
  const outgoing = openOutgoing({ clock })
  const logins = openLogins({
    store,
    keyring,
    clock,
    audit,
    reveal: vault.reveal,
    clientDocument: options.clientDocument,
    notes,
    places,
    machine: {
      assertions,
      identify(id) {
        const found = state().identity(id)
        return found && { spiffe: spiffeId(trustDomain, found.kind, found.name), name: found.name }
      },
    },
  })
  return {
    vault,
    references,
    notes,
    assertions,
    svids,
    outgoing,
    logins,
    /** Documents have changed: what they name is masked from now on, not only when it is used. */
    changed() {
      const named = state().list('secret')
      void references.look(named.map(({ resource }) => resource.name))
    },
  }
}
