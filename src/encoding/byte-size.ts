import { ChaperoneError } from '../errors.ts'

const UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
  kB: 1000,
  MB: 1000 ** 2,
  GB: 1000 ** 3,
  TB: 1000 ** 4,
}

/** Bytes of `512MiB`, `64 kB`, `1.5GiB`. Throws ChaperoneError('invalid_document') for anything else, also for nothing at all (`0MiB`). */
export function parseByteSize(text: string): number {
  // A bare number, `512m` and `512Mb` are refused: one reader in three takes them for something else.
  const [, amount, unit = ''] = /^(\d{1,12}(?:\.\d{1,3})?) ?([kKMGT]?i?B)$/.exec(text) ?? []
  const bytes = Object.hasOwn(UNITS, unit) ? Math.floor(Number(amount) * UNITS[unit]!) : 0
  if (bytes <= 0 || !Number.isSafeInteger(bytes)) {
    throw new ChaperoneError('invalid_document', `${JSON.stringify(text)} is not a size.`, {
      fix: 'Write a number and a unit, such as 512MiB, 64kB or 1.5GiB.',
    })
  }
  return bytes
}
