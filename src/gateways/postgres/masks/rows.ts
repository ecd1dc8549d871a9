import { ChaperoneError } from '../../../errors.ts'
import { HEADER, Reader } from '../wire/reader.ts'
import { type HashKey, hideValue } from './forms.ts'
import type { MaskPlan } from './types.ts'

/** One column of a RowDescription. */
export interface Field {
  /** 0: of no table */
  readonly table: number
  readonly attnum: number
  readonly type: number
}

export function readRowDescription(frame: Buffer): readonly Field[] {
  const reader = new Reader(frame, HEADER)
  return Array.from({ length: reader.int16() }, () => {
    reader.text()
    const table = reader.int32() >>> 0
    const attnum = reader.int16()
    const type = reader.int32() >>> 0
    reader.bytes(8) // length, modifier and format: what is hidden is the same in text and binary
    return { table, attnum, type }
  })
}

const unlike = (what: string) =>
  new ChaperoneError('obligation_unsupported', 'The database would have shown what the rule hides, so the statement was ended.', {
    fix: 'Connect again, and select the columns by their names.',
    detail: what,
  })

/** The rows of one run, with what its mask hides taken out. Throws where the database does not answer as planned: then nothing may be shown. */
export class RowMasks {
  readonly #plan: MaskPlan
  readonly #hash: HashKey
  #fields: readonly Field[] | undefined

  constructor(plan: MaskPlan, hash: HashKey) {
    this.#plan = plan
    this.#hash = hash
  }

  /** Rows have to be rewritten; else they may flow by, once they are described. */
  get rewrites(): boolean {
    return this.#plan.outputs.size > 0
  }

  /** see {@link MaskPlan} */
  get guarded(): boolean {
    return this.#plan.guarded
  }

  /** For the record: how many columns were hidden, and what the mask names in vain. */
  get facts(): Readonly<Record<string, unknown>> {
    const { outputs, idle } = this.#plan
    return { ...(outputs.size > 0 ? { masked: outputs.size } : {}), ...(idle.length > 0 ? { mask_unknown: idle } : {}) }
  }

  /** What the database says of the columns of the result, before any row of it. */
  describe(fields: readonly Field[]): void {
    const { width, outputs } = this.#plan
    if (width !== undefined && fields.length !== width) throw unlike(`${fields.length} columns, where ${width} were expected`)
    fields.forEach(({ table, attnum }, place) => {
      if (this.#plan.hiddenAt(table, attnum) !== undefined && !outputs.has(place)) throw unlike(`column ${attnum} of ${table} in place ${place}`)
    })
    this.#fields = fields
  }

  /** `known`: what a Describe of the prepared statement said, when the portal itself was not described. */
  assertDescribed(known: readonly Field[] | undefined): void {
    if (this.#fields) return
    if (!known) throw unlike('rows that were not described')
    this.describe(known)
  }

  /** A whole DataRow to the one that the client gets. */
  row(frame: Buffer): Buffer {
    const fields = this.#fields
    if (!fields) throw unlike('rows that were not described')
    const reader = new Reader(frame, HEADER)
    const count = reader.int16()
    if (count !== fields.length) throw unlike(`${count} values, where ${fields.length} were described`)
    const parts: Buffer[] = [frame.subarray(0, HEADER + 2)]
    let from = HEADER + 2
    let at = from
    for (let place = 0; place < count; place++) {
      const length = reader.int32()
      const value = length < 0 ? undefined : reader.bytes(length)
      const form = this.#plan.outputs.get(place)
      if (form !== undefined && value !== undefined) {
        const hidden = hideValue(form, value, fields[place]!.type, this.#hash)
        parts.push(frame.subarray(from, at), int32(hidden?.length ?? -1))
        if (hidden) parts.push(hidden)
        from = at + 4 + value.length
      }
      at += 4 + (value?.length ?? 0)
    }
    parts.push(frame.subarray(from))
    const row = Buffer.concat(parts)
    row.writeInt32BE(row.length - 1, 1)
    return row
  }
}

function int32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeInt32BE(value)
  return bytes
}
