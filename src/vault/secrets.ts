import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import type { Keyring } from '../keys/types.ts'
import type { Store, Write } from '../store/store.ts'

/** Upstream secrets, sealed. Their values leave only through `reveal`, which gateways alone call. */
export interface Vault {
  /** Throws `usage` for a name or value that cannot be one. */
  set(trx: Write, name: string, value: string): Promise<void>
  /** Throws `not_found`. */
  delete(trx: Write, name: string): Promise<void>
  list(): Promise<readonly { readonly name: string; readonly createdAt: number; readonly updatedAt: number }[]>
  /** Throws `not_found`, or `key_mismatch` when the stored bytes were changed or moved. */
  reveal(name: string): Promise<string>
  /** `see` gets every value that is set or revealed here from now on, so that it can be masked in records. */
  onSet(see: (value: string) => void): () => void
  /** Seals everything anew under the active key; to be done when the key of the purpose `vault` was rotated, before the old one ends. */
  sealAgain(trx: Write): Promise<number>
}

const LARGEST_VALUE = 64 * 1024
/** Secrets in one store: each is opened again when keys rotate. */
const MOST_SECRETS = 10_000
const NAME = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/

export function openVault(store: Store, keyring: Keyring, clock: Clock): Vault {
  const watchers = new Set<(value: string) => void>()
  const tell = (value: string) => {
    for (const see of watchers) see(value)
  }
  const openRow = async (name: string, sealed: Uint8Array) => (await keyring.open('vault', sealed, name)).toString('utf8')

  return {
    async set(trx, name, value) {
      checkName(name)
      checkValue(value)
      tell(value) // before it is stored: from the moment somebody can use it, no record may show it
      const now = clock.now()
      const sealed = await keyring.seal('vault', value, name)
      const { count } = await trx
        .selectFrom('secrets')
        .select((is) => is.fn.countAll<number>().as('count'))
        .where('name', '!=', name)
        .executeTakeFirstOrThrow()
      if (count >= MOST_SECRETS) throw new ChaperoneError('too_many', `The vault holds ${MOST_SECRETS} secrets, its limit.`)
      await trx
        .insertInto('secrets')
        .values({ name, sealed, created_at: now, updated_at: now })
        .onConflict((is) => is.column('name').doUpdateSet({ sealed, updated_at: now }))
        .execute()
    },

    async delete(trx, name) {
      const { numDeletedRows } = await trx.deleteFrom('secrets').where('name', '=', name).executeTakeFirst()
      if (numDeletedRows === 0n) throw unknown(name)
    },

    async list() {
      const rows = await store.db.selectFrom('secrets').select(['name', 'created_at', 'updated_at']).orderBy('name').execute()
      return rows.map((row) => ({ name: row.name, createdAt: row.created_at, updatedAt: row.updated_at }))
    },

    async reveal(name) {
      const row = await store.db.selectFrom('secrets').select('sealed').where('name', '=', name).executeTakeFirst()
      if (!row) throw unknown(name)
      const value = await openRow(name, row.sealed)
      tell(value) // it may have been set on another node
      return value
    },

    onSet(see) {
      watchers.add(see)
      return () => watchers.delete(see)
    },

    async sealAgain(trx) {
      const rows = await trx.selectFrom('secrets').select(['name', 'sealed']).execute()
      for (const { name, sealed } of rows) {
        const again = await keyring.seal('vault', await openRow(name, sealed), name)
        await trx.updateTable('secrets').set({ sealed: again }).where('name', '=', name).execute()
      }
      return rows.length
    },
  }
}

function checkName(name: string): void {
  if (!NAME.test(name)) {
    // The name is not repeated: somebody may have typed the secret in its place.
    throw new ChaperoneError('usage', 'This cannot be the name of a secret.', {
      fix: 'Use letters, digits, dot, dash, underscore and slash, up to 128.',
    })
  }
}

function checkValue(value: string): void {
  if (value === '') throw new ChaperoneError('usage', 'The secret is empty.')
  if (value.includes('\0')) throw new ChaperoneError('usage', 'The secret holds a NUL byte, which no header, variable or password can.')
  if (Buffer.byteLength(value) > LARGEST_VALUE) throw new ChaperoneError('too_large', 'The secret is over 64 KiB.')
}

function unknown(name: string): ChaperoneError {
  const shown = NAME.test(name) ? ` "${name}"` : ''
  return new ChaperoneError('not_found', `There is no secret${shown}.`, { fix: 'See the list of secrets.' })
}
