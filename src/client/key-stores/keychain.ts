import { type RunProgram, runProgram } from './program.ts'
import { assertAddress, fromLine, type KeyStore, lost, silent, toLine } from './store.ts'

const WHAT = 'The keychain'
/** errSecItemNotFound, as `security` ends with it */
const NOT_FOUND = 44

/** macOS, by its own `security`. */
export function keychain(run: RunProgram = runProgram): KeyStore {
  const ask = (args: readonly string[], input = '') =>
    run('/usr/bin/security', args, input).catch((error: unknown) => {
      throw silent(WHAT, { cause: error })
    })
  const find = (address: string) => ask(['find-generic-password', '-a', address, '-s', 'chaperone', '-w'])
  return {
    place: 'keychain',
    says: 'in the keychain',
    async put(address, key) {
      assertAddress(address)
      const line = toLine(key)
      // `-i` reads commands from standard input. Its own status says nothing of them, so the key is read back.
      const { stderr } = await ask(
        ['-i'],
        `add-generic-password -U -a "${address}" -s "chaperone" -l "Chaperone ${address}" -X ${Buffer.from(line).toString('hex')}\n`,
      )
      const { status, stdout } = await find(address)
      // What it says might repeat the line that it was given.
      if (status !== 0 || stdout.trim() !== line) throw silent(WHAT, { said: stderr.includes('-X') ? '' : stderr })
      return { in: 'keychain' }
    },
    async get(address) {
      const { status, stdout, stderr } = await find(address)
      if (status === NOT_FOUND) throw lost(address)
      if (status !== 0) throw silent(WHAT, { said: stderr })
      return fromLine(address, stdout)
    },
    async remove(address) {
      await ask(['delete-generic-password', '-a', address, '-s', 'chaperone'])
    },
  }
}
