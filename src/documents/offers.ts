import { misfits, type RuleMisfit } from '../policy/fit.ts'
import type { Offer, Vocabulary } from '../policy/types.ts'
import type { Database } from '../store/store.ts'
import { keyOf } from './diff.ts'
import { written } from './faults.ts'
import { loadSnapshot, type Snapshot, type StoredDefinition } from './stored.ts'
import { type World, worldOf } from './world.ts'

/** A rule of a document applied earlier that does not fit what a server offers. */
export interface RoleNotice {
  /** `role/developer` */
  readonly document: string
  /** `allow[0].args.path` */
  readonly at: string
  readonly level: 'error' | 'warning'
  readonly message: string
  readonly fix?: string
}

/** Conditions of roles and guardrails that do not fit what the MCP servers of this world offer. Pure. */
export function misfitsOf(world: World, { documents, definitions }: Snapshot, vocabularies: readonly Vocabulary[]): readonly RuleMisfit[] {
  const ids = new Map(documents.map((document) => [keyOf(document), document.id]))
  const offers = world.ofKind('mcp').map(({ kind, name, labels }): Offer => {
    const id = ids.get(keyOf({ kind, name })) ?? `new ${name}`
    let things: Offer['things'] | undefined
    return {
      resource: { kind, id, name, labels },
      // Read only when a rule asks: all definitions of all servers may be megabytes.
      get things() {
        things ??= (definitions.get(id) ?? []).map(({ text, ...thing }) => ({ ...thing, definition: parsed(text) }))
        return things
      },
    }
  })
  return misfits({ roles: world.ofKind('role'), guardrails: world.ofKind('guardrail') }, vocabularies, offers)
}

function parsed(text: StoredDefinition['text']): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // Too long to be kept: nothing is known of it, so nothing is said.
    return undefined
  }
}

/** The rules of a snapshot that speak of this server and do not fit what it is known to offer. Pure. */
export function noticesOf(snapshot: Snapshot, vocabularies: readonly Vocabulary[], serverId: string): readonly RoleNotice[] {
  return misfitsOf(worldOf(snapshot), snapshot, vocabularies)
    .filter(({ selects }) => selects.includes(serverId))
    .map(({ kind, name, path, level, message, fix }) => ({
      document: keyOf({ kind, name }),
      at: written(path),
      level,
      message,
      ...(fix === undefined ? {} : { fix }),
    }))
}

/**
 * As {@link noticesOf}, of what is applied and known now: for whoever looks at the definitions of a server, because a role
 * that was sound yesterday is not when a tool has changed.
 */
export const noticesFor = async (db: Database, vocabularies: readonly Vocabulary[], serverId: string): Promise<readonly RoleNotice[]> =>
  noticesOf(await loadSnapshot(db), vocabularies, serverId)
