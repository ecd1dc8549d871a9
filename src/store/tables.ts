import type { ColumnType, Generated } from 'kysely'
import type {
  AccountTable,
  DeviceLoginTable,
  DirectoryGroupTable,
  DirectoryMemberTable,
  DirectorySigninTable,
  JoinKeyTable,
  OauthClientTable,
  OauthRecordTable,
  UsedProofTable,
} from './tables-identity.ts'
import type { DeliveryTable, RequestTable, RequestVoteTable } from './tables-requests.ts'
import type { BrowserTable, ChallengeTable, DeviceTable, FactorTable, InvitationTable, PasskeyTable, WebSessionTable } from './tables-signin.ts'

/**
 * The tables, the same over SQLite and PostgreSQL. Times are ms since 1970 (bigint), JSON is text, bytes are BLOB/bytea.
 * What each row means is said here once; migrations/ makes them.
 */
export interface Tables {
  meta: MetaTable
  epoch: EpochTable
  leases: LeaseTable
  keys: KeyTable
  authorities: AuthorityTable
  identities: IdentityTable
  factors: FactorTable
  devices: DeviceTable
  invitations: InvitationTable
  sessions: SessionTable
  delegations: DelegationTable
  documents: DocumentTable
  locks: LockTable
  secrets: SecretTable
  credential_notes: CredentialNoteTable
  audit_leaves: AuditLeafTable
  audit_bodies: AuditBodyTable
  audit_checkpoints: AuditCheckpointTable
  audit_sequencer: AuditSequencerTable
  pins: PinTable
  upstream_logins: UpstreamLoginTable
  upstream_login_flows: UpstreamLoginFlowTable
  budgets: BudgetTable
  mcp_tasks: McpTaskTable
  requests: RequestTable
  request_votes: RequestVoteTable
  browsers: BrowserTable
  web_sessions: WebSessionTable
  passkeys: PasskeyTable
  challenges: ChallengeTable
  deliveries: DeliveryTable
  join_keys: JoinKeyTable
  used_proofs: UsedProofTable
  accounts: AccountTable
  device_logins: DeviceLoginTable
  directory_groups: DirectoryGroupTable
  directory_members: DirectoryMemberTable
  directory_signins: DirectorySigninTable
  oauth_records: OauthRecordTable
  oauth_clients: OauthClientTable
}

/** `trust_domain`, `created_at`, `schema` ... */
export interface MetaTable {
  key: string
  value: string
}

/** One row (`id` 1). Raised in the same transaction as any change that can reduce rights. */
export interface EpochTable {
  id: number
  value: number
}

/** One row a live node. A node refuses everything when its own row has run out; a lock is acknowledged when every row has seen its epoch or run out. */
export interface LeaseTable {
  node_id: string
  expires_at: number
  epoch_seen: number
  address: string
}

/** One key of one purpose, wrapped by the root key. */
export interface KeyTable {
  id: string
  purpose: string
  /** `aes-256-gcm`, `ed25519`, `p-256`, `hmac-sha256` */
  algorithm: string
  /** SPKI DER of the public half; null for symmetric keys */
  public_key: Uint8Array | null
  /** nonce | ciphertext | tag under the root key; additional data is `id purpose algorithm` */
  wrapped: Uint8Array
  /** `active` makes new things, `retiring` still opens or verifies old ones, `retired` neither */
  state: 'active' | 'retiring' | 'retired'
  created_at: number
  retire_at: number | null
}

export interface AuthorityTable {
  id: string
  /** `identity`, `server`, or `database:<resource id>` */
  purpose: string
  key_id: string
  certificate: string
  /** sha256 hex of the SubjectPublicKeyInfo */
  spki_sha256: string
  state: 'active' | 'retiring' | 'retired'
  created_at: number
  not_after: number
  retire_at: number | null
}

export interface IdentityTable {
  id: string
  kind: 'user' | 'agent' | 'node'
  /** Unique for ever: the row of a deleted identity stays, so that its name is never used again. */
  name: string
  owner_id: string | null
  state: 'active' | 'disabled' | 'deleted'
  traits: string
  /** JSON array of role names; the string `"inherit"` for a client agent that uses its owner's */
  roles: string
  /** `document`, `client` (boris/claude-code), `bootstrap`, `directory` */
  source: string
  created_at: number
  updated_at: number
  /** when somebody last said that this agent is still wanted as it is, and who */
  reviewed_at: number | null
  reviewed_by: string | null
  /** when it last did anything */
  last_used_at: number | null
  /** why Chaperone itself disabled it: `unused`, `unreviewed`, `owner`, `directory`; null: it did not */
  stopped: string | null
  /** when it will be stopped, as its people were told; null: nobody was told of anything */
  stops_at: number | null
  /** when they were told of that last */
  told_at: number | null
  /** JSON: whose `roles` and `traits` these are, where directories give some of them; see identity/given.ts. null: all his own */
  given: string | null
}

export interface SessionTable {
  id: string
  identity_id: string
  /** JSON: [{ "identity": id, "delegation"?: id }], first = on whose behalf, last = identity_id */
  chain: string
  /** see `StartSession.how` */
  how: string
  client: string | null
  purpose: string | null
  /** the operator who issued it, when one did */
  issuer_id: string | null
  started_at: number
  /** its longest life; no credential of it outlives this */
  expires_at: number
  ended_at: number | null
  end_reason: string | null
  /** when the person last gave a second factor in this session */
  factor_at: number | null
  factor_by: 'totp' | 'passkey' | 'directory' | null
  /** the person's session that a client's session came from: it ends with it */
  parent_id: string | null
  /** id of the newest credential that was issued in it, and of the one before: an older one that renews was copied */
  newest_credential: string | null
  previous_credential: string | null
  last_used_at: number | null
  /** JSON: by what it joined, and what was proven: `{ "method": "oidc", "document": "deploys", "subject": "repo:..." }` */
  joined: string | null
  /** address of the peer that began it */
  came_from: string | null
  /** the session in which somebody agreed to it: a lock on that one falls on this; its end does not end this */
  given_in: string | null
}

export interface DelegationTable {
  id: string
  from_id: string
  to_id: string
  /** JSON: policy/types.ts `Limits` */
  limits: string
  created_at: number
  expires_at: number | null
  ended_at: number | null
  /** how it came to be: `client` (first use), `consent` (OAuth), `run`, `exchange`; null: before this was kept */
  how: string | null
  /** it ends with this session of the one who delegated */
  session_id: string | null
  /** the delegation that it was made under: it ends with that one */
  parent_id: string | null
  /** identity that agreed to it */
  made_by: string | null
  /** OAuth client, or program */
  client: string | null
  /** what the person read when he agreed */
  words: string | null
  /** why it ended */
  end_reason: string | null
}

/** What people wrote in YAML, as applied: roles, guardrails, resources, users, agents. */
export interface DocumentTable {
  /** immutable id: `res_...` for resources */
  id: string
  kind: string
  name: string
  /** JSON object */
  labels: string
  /** canonical JSON */
  spec: string
  /** sha256 hex of the canonical JSON of the whole document */
  digest: string
  /** the `owner` label that `apply --prune` works by */
  owner: string | null
  applied_by: string | null
  updated_at: number
}

export interface LockTable {
  id: string
  /** `owner`: the agents of a person, not the person; `agents`: every agent; `tool`: `<resource id>/<tool>`; `credential`: one certificate or token */
  target_kind: 'identity' | 'owner' | 'agents' | 'session' | 'credential' | 'resource' | 'tool' | 'role' | 'everything'
  /** immutable id of the target; `*` for everything and for every agent */
  target: string
  reason: string
  created_by: string | null
  created_at: number
  expires_at: number | null
  lifted_at: number | null
  lifted_by: string | null
  /** name of the rule that made it by itself; null: somebody did */
  made_by: string | null
}

export interface SecretTable {
  name: string
  /** sealed with the purpose `vault`, additional data = name */
  sealed: Uint8Array
  created_at: number
  updated_at: number
}

/** Beside a credential for an upstream: who put it there, and when it was last used. */
export interface CredentialNoteTable {
  /** `secret NAME`, `login RESOURCE SUBJECT`, `machine RESOURCE` */
  about: string
  /** id of an identity */
  set_by: string | null
  set_at: number | null
  /** written once an hour at the most */
  used_at: number | null
}

/**
 * A leaf: the very bytes that were hashed. The other columns are an index over them; verify reads `leaf` and says where
 * the index lies. Primary key (node_id, node_seq). Unique: (position). Indexes: (id), (at), (identity_id, at),
 * (session_id, at), (resource_id, at). Each index costs an append 2 to 4 us, so the rest are partial: (permit) where it is
 * not null; (type, at) where type not in ('action.intent', 'action.outcome'); (verdict, at) where verdict <> 'allow';
 * (node_id, node_seq) where position is null, which is the sequencer's queue.
 */
export interface AuditLeafTable {
  node_id: string
  /** per node, from 1, without gaps */
  node_seq: number
  /** the envelope's id. Not unique: a caller hands it in, and a second one must not stop the log */
  id: string
  at: number
  type: string
  identity_id: string | null
  session_id: string | null
  resource_id: string | null
  verdict: string | null
  /** id of the intent that this record is the outcome of */
  permit: string | null
  leaf: Uint8Array
  /** sha256(0x00 | leaf), RFC 6962 section 2.1 */
  leaf_hash: Uint8Array
  /** tree position, from 0; null until the sequencer gave it one */
  position: number | null
}

/** Primary key (node_id, node_seq, name). */
export interface AuditBodyTable {
  node_id: string
  node_seq: number
  name: string
  /** 32 random bytes; the leaf holds HMAC-SHA256(salt, body) */
  salt: Uint8Array
  /** null once erased */
  body: Uint8Array | null
  size: number
  erased_at: number | null
}

export interface AuditCheckpointTable {
  /** number of leaves under it */
  size: number
  root: Uint8Array
  /** a C2SP signed note (tlog-checkpoint) */
  note: string
  at: number
}

/** One row (`id` 1): who gives positions. `token` is the fencing token: it only rises. */
export interface AuditSequencerTable {
  id: number
  node_id: string
  token: number
  expires_at: number
  size: number
  /** hashes of the perfect subtrees on the right edge, concatenated, largest first */
  frontier: Uint8Array
}

/**
 * The definition of one thing that an MCP server offers, as it was approved. Primary key (resource_id, kind, name). A row stays
 * when the thing disappears: taking a tool away and bringing it back must not make it new (peers R94).
 */
export interface PinTable {
  resource_id: string
  kind: 'tool' | 'prompt' | 'template' | 'instructions'
  name: string
  /** canonical JSON of the definition that holds; null: never approved, held back until somebody does */
  approved: string | null
  /** sha256 hex of `approved` */
  approved_sha256: string | null
  /** identity that confirmed it; null with `approved` set: taken as first seen, confirmed by nobody */
  approved_by: string | null
  approved_at: number | null
  /** another definition that was seen since: while it is here the thing is quarantined */
  pending: string | null
  pending_sha256: string | null
  pending_at: number | null
  first_seen_at: number
}

/** What Chaperone holds at an MCP server that wants OAuth. Primary key (resource_id, subject). */
export interface UpstreamLoginTable {
  resource_id: string
  /** identity whose login it is, or `*`: one login for everybody */
  subject: string
  /** the authorization server: credentials of one are never sent to another (RFC 9700) */
  issuer: string
  /** tokens and client registration, sealed with the purpose `vault` */
  sealed: Uint8Array
  updated_at: number
  /** some node refreshes it until then: a rotated refresh token that is used twice ends the login */
  claimed_until: number | null
}

/** A sign-in at such a server that somebody began. One use, minutes. */
export interface UpstreamLoginFlowTable {
  /** sha256 hex of the `state` parameter */
  state_sha256: string
  resource_id: string
  subject: string
  identity_id: string
  /** verifier, redirect, issuer, registration; sealed with the purpose `vault` */
  sealed: Uint8Array
  expires_at: number
}

/** How much of a budget is used in its window. */
export interface BudgetTable {
  /** sha256 hex of what is counted: rule, identity, resource */
  key: string
  window_start: number
  used: number
  expires_at: number
}

/** Whose an MCP task is: its id alone opens nothing. Primary key (resource_id, task_id). */
export interface McpTaskTable {
  resource_id: string
  task_id: string
  /** the chain that made it, as canonical JSON */
  owner: string
  /** the tool whose call made it: what is done with the task later is judged as that */
  tool: string
  /** the permit that it ran with, where a human allowed the call */
  permit: string | null
  created_at: number
  expires_at: number
}

export type { ColumnType, Generated }
