import { compileSelector, type SelectorSpec } from '../../../policy/selector.ts'
import type { Resource, Variables } from '../../../policy/types.ts'

/** A database user and what it is for. */
export interface DatabaseUser {
  readonly name: string
  /** It only ever has to read. */
  readonly reads: boolean
}

interface RoleDocument {
  readonly kind: string
  readonly spec: Readonly<Record<string, unknown>>
}

/** The database users that roles name for a resource; `reads` when no rule lets it do anything else. */
export function usersInRoles(documents: readonly RoleDocument[], resource: Resource): readonly DatabaseUser[] {
  const users = new Map<string, boolean>()
  for (const { kind, spec } of documents) {
    if (kind !== 'role') continue
    for (const section of [spec.allow, spec.ask]) {
      for (const rule of Array.isArray(section) ? (section as Record<string, unknown>[]) : []) {
        if (rule.postgres === undefined || !selects(rule.postgres as SelectorSpec, resource)) continue
        const reads = onlyReads(rule)
        for (const name of texts(rule.as)) {
          // `any` and patterns name nobody, and who stands behind a template only a session tells.
          if (name === 'any' || /[*?{}]/.test(name)) continue
          users.set(name, reads && (users.get(name) ?? true))
        }
      }
    }
  }
  return [...users].map(([name, reads]) => ({ name, reads })).sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** Templates in a selector are filled in by who asks; here nobody does. */
const NOBODY: Variables = {
  identity: { id: '', kind: 'user', name: '', traits: {}, roles: [] },
  session: { id: '', startedAt: 0, how: '' },
  now: 0,
}

function selects(selector: SelectorSpec, resource: Resource): boolean {
  try {
    return compileSelector(selector).selects(resource, NOBODY)
  } catch {
    // What cannot be read here was refused when it was applied.
    return false
  }
}

const texts = (value: unknown): readonly string[] => (Array.isArray(value) ? value : [value]).filter((one): one is string => typeof one === 'string')

const onlyReads = ({ can, statements }: Record<string, unknown>): boolean =>
  can === undefined
    ? texts(statements).every((kind) => kind === 'select' || kind === 'show' || kind === 'explain')
    : texts(can).every((effect) => effect === 'read')
