import { homedir } from 'node:os'
import { join } from 'node:path'
import type { Place } from './types.ts'

export const thisPlace = (): Place => ({ home: homedir(), env: process.env, platform: process.platform })

/** Where applications keep what is the user's: `~/.config`, `~/Library/Application Support`, `%APPDATA%`. */
export function appData({ home, env, platform }: Place, ...rest: string[]): string {
  if (platform === 'darwin') return join(home, 'Library', 'Application Support', ...rest)
  if (platform === 'win32') return join(env.APPDATA ?? join(home, 'AppData', 'Roaming'), ...rest)
  return join(env.XDG_CONFIG_HOME || join(home, '.config'), ...rest)
}
