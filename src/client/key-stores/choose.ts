import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { ChaperoneError } from '../../errors.ts'
import { keychain } from './keychain.ts'
import type { RunProgram } from './program.ts'
import { sealedFile } from './sealed-file.ts'
import { secretService } from './secret-service.ts'
import type { KeyPlace, KeyStore } from './store.ts'

export interface Surroundings {
  readonly env?: NodeJS.ProcessEnv
  readonly platform?: NodeJS.Platform
  readonly run?: RunProgram
  readonly has?: (path: string) => boolean
}

/**
 * The key stores that profiles in `home` may use: the first is where new keys go. With a home that was named (`CHAPERONE_HOME`, a test,
 * the demo) everything stays in it.
 */
export function keyStores(
  home: string,
  named: boolean,
  { env = process.env, platform = process.platform, run, has = existsSync }: Surroundings = {},
): readonly KeyStore[] {
  const file = sealedFile(
    named ? join(home, 'wrapping-key') : join(env.XDG_STATE_HOME || join(homedir(), '.local', 'state'), 'chaperone', 'wrapping-key'),
  )
  const onPath = (program: string) => (env.PATH ?? '').split(delimiter).some((folder) => folder !== '' && has(join(folder, program)))
  const all = [secretService(run), keychain(run), file]
  const wish = env.CHAPERONE_KEY_STORE
  if (wish && !all.some(({ place }) => place === wish))
    throw new ChaperoneError('usage', 'CHAPERONE_KEY_STORE is none of secret-service, keychain, file.')
  const best = wish || (named ? 'file' : ofMachine())
  return [...all.filter(({ place }) => place === best), ...all.filter(({ place }) => place !== best)]

  function ofMachine(): KeyPlace {
    if (platform === 'darwin' && has('/usr/bin/security')) return 'keychain'
    return platform === 'linux' && env.DBUS_SESSION_BUS_ADDRESS && onPath('secret-tool') ? 'secret-service' : 'file'
  }
}
