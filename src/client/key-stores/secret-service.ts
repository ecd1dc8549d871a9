import { type RunProgram, runProgram } from './program.ts'
import { assertAddress, fromLine, type KeyStore, locked, lost, silent, toLine } from './store.ts'

const WHAT = 'The key store of the desktop (Secret Service)'

/** GNOME Keyring, KWallet and others, by `secret-tool` of libsecret. */
export function secretService(run: RunProgram = runProgram): KeyStore {
  const attributes = (address: string) => ['service', 'chaperone', 'server', address]
  const ask = (args: readonly string[], input = '') =>
    run('secret-tool', args, input).catch((error: unknown) => {
      throw silent(WHAT, { cause: error })
    })

  /**
   * `lookup` ends with 1 and says nothing in three cases: there is no such item, the person did not unlock it, nobody could ask him
   * (measured with GNOME Keyring 42). `search` without `--unlock` names an item that is locked as well.
   */
  async function whyNot(address: string): Promise<never> {
    const { status, stdout, stderr } = await ask(['search', ...attributes(address)])
    // What it has found it tells on both; of nothing found it tells nothing.
    const found = /^attribute\./m.test(stderr) || /^\[/m.test(stdout)
    if (found) throw locked(WHAT)
    if (status === null || stderr.trim() !== '') throw silent(WHAT, { said: stderr })
    throw lost(address)
  }

  return {
    place: 'secret-service',
    says: 'in the key store of the desktop (Secret Service)',
    async put(address, key) {
      assertAddress(address)
      const { status, stderr } = await ask(['store', `--label=Chaperone ${address}`, ...attributes(address)], toLine(key))
      if (status !== 0) throw /locked/i.test(stderr) ? locked(WHAT) : silent(WHAT, { said: stderr })
      return { in: 'secret-service' }
    },
    async get(address) {
      const { status, stdout, stderr } = await ask(['lookup', ...attributes(address)])
      if (status === 0 && stdout !== '') return fromLine(address, stdout)
      // No bus, no daemon, or one that died meanwhile: it says so, and the key may be there all the same.
      if (status === null || stderr.trim() !== '') throw silent(WHAT, { said: stderr })
      return whyNot(address)
    },
    async remove(address) {
      await ask(['clear', ...attributes(address)])
    },
  }
}
