import type { Requests } from '../access/requests/types.ts'
import type { StateKeeper } from '../access/state.ts'
import type { Guard } from '../access/types.ts'
import type { AuditLog } from '../audit/record.ts'
import type { CertificateAuthority } from '../ca/types.ts'
import type { PinBook } from '../catalog/pin-book.ts'
import type { Clock } from '../clock.ts'
import type { DocumentsParts } from '../documents/apply.ts'
import type { ChaperoneError } from '../errors.ts'
import type { Scanner } from '../gateways/mcp/offers/scan.ts'
import type { DatabaseSetup } from '../gateways/postgres/setup/setup.ts'
import type { Tokens } from '../identity/tokens.ts'
import type { LiveSession, Sessions } from '../identity/types.ts'
import type { Keyring } from '../keys/types.ts'
import type { Notifications } from '../notify/notifications.ts'
import type { Action, Decision, Resource, Vocabulary } from '../policy/types.ts'
import type { BrowserSignin } from '../signin/browser.ts'
import type { DeviceSignin } from '../signin/device.ts'
import type { Signin } from '../signin/enrol.ts'
import type { Passkeys } from '../signin/passkey.ts'
import type { Lease } from '../store/lease.ts'
import type { Store } from '../store/store.ts'
import type { Assertions } from '../vault/assertions.ts'
import type { CredentialNotes } from '../vault/credential-notes.ts'
import type { UpstreamLogins } from '../vault/logins.ts'
import type { References } from '../vault/references.ts'
import type { Vault } from '../vault/secrets.ts'
import type { Credential, Explain } from './contract.ts'

/** Everything the API needs; put together by `server/`. */
export interface ApiParts {
  readonly guard: Pick<Guard, 'admit' | 'settle' | 'judge'>
  readonly sessions: Sessions
  readonly store: Store
  readonly lease: Pick<Lease, 'noticed' | 'confirmed'>
  readonly state: StateKeeper
  readonly audit: AuditLog
  readonly keyring: Keyring
  readonly vault: Vault
  /** Secrets that are kept elsewhere: whether they can be had now. */
  readonly references: Pick<References, 'trouble'>
  readonly logins: UpstreamLogins
  /** Who put a credential there, and when it was last used. */
  readonly notes: CredentialNotes
  readonly pins: PinBook
  readonly requests: Requests
  /** Who outside is told. */
  readonly notifications: Pick<Notifications, 'announce' | 'list' | 'test'>
  /** Where a request is decided in a browser; opening it approves nothing. */
  readonly link: (request: string) => string
  /** The MCP servers that are no process, as far as this session may use them: Chaperone's own, and those of databases by `resource/database`. */
  readonly builtinServers: (session: LiveSession) => readonly { readonly resource: Resource }[]
  /** Looks at a database server, and comes in to check what holds there. */
  readonly databases: DatabaseSetup
  /** Starts or reaches an MCP server and asks what it offers. */
  readonly scan: Scanner
  readonly ca: CertificateAuthority
  readonly signin: Signin
  /** Counts what strangers ask for, by address: a budget for each of the doors at which a secret could be guessed. Throws `too_many`. */
  readonly guesses: (address: string, door: string) => void
  readonly browsers: BrowserSignin
  readonly passkeys: Passkeys
  readonly devices: DeviceSignin
  /** Where people reach the web listener, `host:port`. */
  readonly places: { readonly web: string /** the line that names this server to a terminal */; readonly line?: string }
  readonly tokens: Pick<Tokens, 'mint'>
  /** Tokens that an identity asks for itself, to show elsewhere. */
  readonly svids: Pick<Assertions, 'mint'>
  readonly documents: DocumentsParts
  readonly clock: Clock
  readonly trustDomain: string
  /** Chaperone itself, as `chaperoneResource` makes it */
  readonly chaperone: Resource
  readonly vocabularies: readonly Vocabulary[]
  /** Where the gateways listen, as `host:port`; an empty host means the one that the client already uses. */
  readonly listeners: () => Credential['listeners']
  /** For `explain`: makes the action that a gateway would make, by kind; what that depends on is asked with `judge`, for the same identity. Throws ChaperoneError when it cannot be understood. */
  readonly describe: Readonly<
    Record<string, (ask: Explain, judge: (action: Action) => Decision) => Action | readonly Action[] | Promise<Action | readonly Action[]>>
  >
  /** A fault of ours, for the operator's log. */
  readonly log: (error: ChaperoneError, route: string) => void
}
