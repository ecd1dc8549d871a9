import type { Effect } from '../../../policy/types.ts'

/** A statement that is not looked into further than this line: definitions, maintenance, rights. */
interface Plain {
  /** the word that `statements:` uses */
  readonly kind: string
  readonly effects: readonly Effect[]
  /** Runs code that cannot be seen from here, or on tables that it does not name. */
  readonly opaque?: true
}

const define = (kind: string): Plain => ({ kind, effects: ['admin'] })
const elsewhere = (kind: string): Plain => ({ kind, effects: ['admin', 'egress'], opaque: true })
const drop = (kind: string): Plain => ({ kind, effects: ['admin', 'destroy'] })
const maintain = (kind: string): Plain => ({ kind, effects: ['admin'], opaque: true })

/**
 * Every other statement of PostgreSQL 18, by the parser's name of its node. What stands neither here nor in `walk.ts`
 * is a statement that nobody has reviewed, and is refused as not understood.
 */
export const PLAIN_STATEMENTS: Readonly<Record<string, Plain>> = {
  CreateStmt: define('create table'),
  CreateSchemaStmt: { kind: 'create schema', effects: ['admin'], opaque: true },
  CreateForeignTableStmt: elsewhere('create foreign table'),
  CreateSeqStmt: define('create sequence'),
  CreateStatsStmt: define('create statistics'),
  CreateDomainStmt: define('create type'),
  CreateEnumStmt: define('create type'),
  CreateRangeStmt: define('create type'),
  CompositeTypeStmt: define('create type'),
  CreateFunctionStmt: { kind: 'create function', effects: ['admin'], opaque: true },
  CreateTrigStmt: define('create trigger'),
  CreateEventTrigStmt: define('create trigger'),
  CreatePolicyStmt: define('create policy'),
  CreateExtensionStmt: maintain('create extension'),
  CreateCastStmt: define('create cast'),
  CreateConversionStmt: define('create conversion'),
  CreateOpClassStmt: define('create operator'),
  CreateOpFamilyStmt: define('create operator'),
  CreateAmStmt: define('create access method'),
  CreatePLangStmt: define('create language'),
  CreateTransformStmt: define('create transform'),
  DefineStmt: define('create object'),
  CreateFdwStmt: elsewhere('create foreign data wrapper'),
  CreateForeignServerStmt: elsewhere('create server'),
  CreateUserMappingStmt: elsewhere('create user mapping'),
  CreatePublicationStmt: elsewhere('create publication'),
  CreateSubscriptionStmt: elsewhere('create subscription'),
  ImportForeignSchemaStmt: elsewhere('import foreign schema'),
  CreateRoleStmt: define('create role'),
  CreateTableSpaceStmt: define('create tablespace'),
  CreatedbStmt: define('create database'),
  IndexStmt: define('create index'),
  RuleStmt: define('create rule'),
  ViewStmt: define('create view'),

  AlterCollationStmt: define('alter collation'),
  AlterDatabaseRefreshCollStmt: define('alter database'),
  AlterDatabaseSetStmt: define('alter database'),
  AlterDatabaseStmt: define('alter database'),
  AlterDefaultPrivilegesStmt: define('grant'),
  AlterDomainStmt: define('alter type'),
  AlterEnumStmt: define('alter type'),
  AlterEventTrigStmt: define('alter trigger'),
  AlterExtensionContentsStmt: define('alter extension'),
  AlterExtensionStmt: maintain('alter extension'),
  AlterFdwStmt: elsewhere('alter foreign data wrapper'),
  AlterForeignServerStmt: elsewhere('alter server'),
  AlterFunctionStmt: define('alter function'),
  AlterObjectDependsStmt: define('alter object'),
  AlterObjectSchemaStmt: { kind: 'alter object', effects: ['admin'], opaque: true },
  AlterOpFamilyStmt: define('alter operator'),
  AlterOperatorStmt: define('alter operator'),
  AlterOwnerStmt: { kind: 'alter owner', effects: ['admin'], opaque: true },
  AlterPolicyStmt: define('alter policy'),
  AlterPublicationStmt: elsewhere('alter publication'),
  AlterRoleSetStmt: define('alter role'),
  AlterRoleStmt: define('alter role'),
  AlterSeqStmt: define('alter sequence'),
  AlterStatsStmt: define('alter statistics'),
  AlterSubscriptionStmt: elsewhere('alter subscription'),
  AlterSystemStmt: define('alter system'),
  AlterTSConfigurationStmt: define('alter text search'),
  AlterTSDictionaryStmt: define('alter text search'),
  AlterTableMoveAllStmt: maintain('alter table'),
  AlterTableSpaceOptionsStmt: define('alter tablespace'),
  AlterTableStmt: { kind: 'alter table', effects: ['admin', 'destroy'] },
  AlterTypeStmt: define('alter type'),
  AlterUserMappingStmt: elsewhere('alter user mapping'),
  RenameStmt: { kind: 'alter object', effects: ['admin'], opaque: true },
  ReplicaIdentityStmt: define('alter table'),
  CommentStmt: { kind: 'comment', effects: ['admin'], opaque: true },
  SecLabelStmt: { kind: 'security label', effects: ['admin'], opaque: true },

  DropStmt: { ...drop('drop'), opaque: true },
  DropOwnedStmt: { ...drop('drop'), opaque: true },
  DropRoleStmt: drop('drop role'),
  DropSubscriptionStmt: drop('drop subscription'),
  DropTableSpaceStmt: drop('drop tablespace'),
  DropUserMappingStmt: drop('drop user mapping'),
  DropdbStmt: drop('drop database'),
  // CASCADE empties tables that are not named.
  TruncateStmt: { kind: 'truncate', effects: ['write', 'destroy'], opaque: true },

  GrantRoleStmt: define('grant'),
  GrantStmt: { kind: 'grant', effects: ['admin'], opaque: true },
  ReassignOwnedStmt: { kind: 'reassign', effects: ['admin'], opaque: true },

  CheckPointStmt: define('checkpoint'),
  ClusterStmt: maintain('cluster'),
  LoadStmt: maintain('load'),
  RefreshMatViewStmt: { kind: 'refresh', effects: ['write'], opaque: true },
  ReindexStmt: maintain('reindex'),
  VacuumStmt: maintain('vacuum'),
  ConstraintsSetStmt: { kind: 'transaction', effects: ['read'] },

  // Code that no parser sees, or that may end the transaction it runs in (B15).
  DoStmt: { kind: 'do', effects: ['read', 'write', 'destroy', 'admin', 'egress'], opaque: true },

  LockStmt: { kind: 'lock', effects: ['write'] },
  NotifyStmt: { kind: 'notify', effects: ['write', 'egress'] },
  // It fills the server's queue for as long as the connection is idle, and brings in what others wrote (B21): of which tables nobody can tell.
  ListenStmt: { kind: 'listen', effects: ['write'], opaque: true },
  UnlistenStmt: { kind: 'listen', effects: ['read'] },
  // Only takes away: names of statements that are judged again when they run.
  DeallocateStmt: { kind: 'deallocate', effects: ['read'] },
  ClosePortalStmt: { kind: 'cursor', effects: ['read'] },
  // Gives the session's own back, settings included, as RESET ALL does; pools end with it.
  DiscardStmt: { kind: 'discard', effects: ['read'] },
}

/** The kinds that `walk.ts` looks into. */
const WALKED = [
  'connect',
  'select',
  'insert',
  'update',
  'delete',
  'merge',
  'copy',
  'explain',
  'show',
  'set',
  'transaction',
  'cursor',
  'fetch',
  'prepare',
  'execute',
  'call',
  'create table as',
] as const

export const STATEMENT_KINDS: readonly string[] = [...new Set([...WALKED, ...Object.values(PLAIN_STATEMENTS).map((plain) => plain.kind)])].sort()

/** `statements: [ddl]`: every definition, change and removal of an object. */
export const DDL_KINDS: ReadonlySet<string> = new Set(
  STATEMENT_KINDS.filter((kind) => /^(create|alter|drop|comment|grant|security label|import|reassign|truncate)/.test(kind)),
)

/** What a statement of a kind does by itself: the most that `statements: [kind]` alone allows. */
export const NATURAL_EFFECTS: Readonly<Record<string, readonly Effect[]>> = {
  connect: ['read'],
  select: ['read'],
  insert: ['read', 'write'],
  update: ['read', 'write'],
  delete: ['read', 'write', 'destroy'],
  merge: ['read', 'write', 'destroy'],
  copy: ['read', 'write'],
  explain: ['read'],
  show: ['read'],
  set: ['read'],
  transaction: ['read'],
  cursor: ['read'],
  fetch: ['read'],
  prepare: ['read'],
  execute: ['read'],
  call: ['read', 'write', 'destroy', 'admin', 'egress'],
  'create table as': ['read', 'write', 'admin'],
  ...naturalOfPlain(),
}

function naturalOfPlain(): Record<string, Effect[]> {
  const natural: Record<string, Effect[]> = {}
  for (const { kind, effects } of Object.values(PLAIN_STATEMENTS))
    natural[kind] = [...new Set([...(natural[kind] ?? []), ...effects, 'read' as const])]
  return natural
}

/** Comes along with any rule that allows something: without these no driver can work, and none of them does anything alone. */
export const COMPANION_KINDS: ReadonlySet<string> = new Set(['transaction', 'set', 'show', 'deallocate', 'cursor', 'fetch', 'listen', 'discard'])
