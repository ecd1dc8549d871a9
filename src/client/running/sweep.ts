import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sweep } from '../../gateways/mcp/stdio/memory.ts'
import { openApi } from '../api.ts'
import { readProfile } from '../profile.ts'
import { markOf } from './mark.ts'
import { type RunNote, sweepRuns } from './place.ts'
import { SVID_FILES } from './svid-files.ts'

const REQUEST_MS = 10_000

/** What runners that were killed left: their programs end, their sessions end, their files go. Resolves with how many there were. */
export function sweepLeft(folder: string, failed?: (error: Error) => void): Promise<number> {
  return sweepRuns(
    folder,
    async ({ id, folder: run, note }) => {
      await sweep(markOf(id))
      if (note) await endSession(run, note)
    },
    failed,
  )
}

/** With the credential of the run itself, where it left one; else as whoever started it. The session is over anyway when its last credential is. */
async function endSession(run: string, { address, session, by }: RunNote): Promise<void> {
  const file = (name: string) => readFile(join(run, 'svid', name), 'utf8')
  const own = await Promise.all([file(SVID_FILES.key), file(SVID_FILES.certificate), file(SVID_FILES.bundle)]).catch(() => undefined)
  const profile = by === undefined ? undefined : await readProfile(by).catch(() => undefined)
  const asks = [
    ...(own ? [{ path: '/v1/logout', method: 'POST' as const, body: {}, authorities: own[2], identity: { key: own[0], certificate: own[1] } }] : []),
    ...(profile
      ? [{ path: `/v1/sessions/${session}`, method: 'DELETE' as const, body: undefined, authorities: profile.bundles.server, identity: profile }]
      : []),
  ]
  for (const { path, method, body, authorities, identity } of asks) {
    const api = openApi({ address, authorities, identity, timeoutMs: REQUEST_MS })
    const done = await api.call(method, path, body).then(
      () => true,
      () => false,
    )
    api.close()
    if (done) return
  }
}
