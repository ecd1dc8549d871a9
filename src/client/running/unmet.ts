import { OWN_SERVER } from '../../catalog/mcp-server.ts'
import { compileGlob } from '../../encoding/glob.ts'
import type { Limits } from '../../policy/types.ts'
import type { Seen } from './around.ts'
import type { RunDatabase } from './databases.ts'
import type { Missing } from './summary.ts'

/** What the flags of a run name and this identity does not have: it would be seen only as something that is refused. Pure. */
export function unmet(
  { limits = {}, databases = [] }: { readonly limits?: Limits; readonly databases?: readonly RunDatabase[] },
  seen: Pick<Seen, 'roles' | 'servers' | 'databases'>,
): readonly Missing[] {
  const roles = (limits.roles ?? []).filter((name) => !seen.roles.includes(name))
  const fitless = [
    ...(limits.tools ?? []).map((tool) => [tool, `mcp/${tool}`] as const),
    ...(limits.resources ?? []).map((one) => [one, one] as const),
  ]
    .filter(([, pattern]) => !fits(pattern, seen))
    .map(([said]) => said)
  const absent = databases.filter(({ resource, database }) => !seen.databases.some((one) => one.resource === resource && one.database === database))
  return [
    ...roles.map((name) => ({
      text: `you do not have the role ${name}, so nothing comes of it`,
      fix: seen.roles.length > 0 ? `Yours: ${seen.roles.join(', ')}.` : 'You have none: ask an administrator.',
    })),
    ...[...new Set(fitless)].map((pattern) => ({
      text: `nothing that it may see fits ${pattern}`,
      fix: 'What there is: chaperone mcp ls, chaperone db ls',
    })),
    ...absent.map(({ resource, database }) => ({
      text: `there is no database ${resource}/${database} that it may see`,
      fix: 'Those that there are, and their resources: chaperone db ls',
    })),
  ]
}

/** Whether the kind and the name before the tool mean something that is there. */
function fits(pattern: string, { servers, databases }: Pick<Seen, 'servers' | 'databases'>): boolean {
  const matches = compileGlob(pattern.split('/', 2).join('/'))
  return [...[...servers, OWN_SERVER].map((name) => `mcp/${name}`), ...databases.map(({ resource }) => `postgres/${resource}`)].some(matches)
}
