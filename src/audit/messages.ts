import type { Checkpoint } from './note.ts'
import type { Parcel } from './parcel.ts'
import type { RecordType } from './record.ts'

/** What the main thread and the writer's thread say to each other. All of it is plain data. */
export type ToWorker =
  | { readonly kind: 'open'; readonly call: number; readonly now: number }
  /** `first` numbers the first of the records; the others follow it. */
  | { readonly kind: 'append'; readonly first: number; readonly parcel: Parcel }
  /** Which leaves are wanted back, from now on. */
  | { readonly kind: 'watch'; readonly watched: Watched }
  | { readonly kind: 'secrets'; readonly values: readonly string[] }
  | { readonly kind: 'tick'; readonly now: number }
  | { readonly kind: 'checkpoint'; readonly call: number; readonly now: number }
  | { readonly kind: 'signed'; readonly call: number; readonly note?: string; readonly failure?: Failure }
  | { readonly kind: 'close'; readonly call: number; readonly now: number }

export type FromWorker =
  /** Durable: `count` records from the number `first` on, under the sequence numbers from `seq` on. */
  | {
      readonly kind: 'stored'
      readonly first: number
      readonly seq: number
      readonly count: number
      readonly leaves?: readonly string[]
    }
  | { readonly kind: 'refused'; readonly numbers: readonly number[]; readonly failure: Failure }
  /** The private key stays on the main thread, in the keyring. */
  | { readonly kind: 'sign'; readonly call: number; readonly checkpoint: Omit<Checkpoint, 'origin'> }
  | { readonly kind: 'answer'; readonly call: number; readonly value?: unknown; readonly failure?: Failure }
  /** Something failed that nobody waits for. */
  | { readonly kind: 'trouble'; readonly failure: Failure }

/** The types of record that somebody watches. */
export type Watched = 'all' | readonly RecordType[]

/** A ChaperoneError as data: classes do not survive the way between threads. */
export interface Failure {
  readonly code: string
  readonly message: string
  readonly detail?: string | undefined
  readonly fix?: string | undefined
}

export interface WorkerSettings {
  readonly dialect: 'sqlite' | 'postgres'
  readonly location: string
  readonly nodeId: string
  readonly maxBodyBytes: number
  /** For tests: SQLite's `max_page_count`, a disk of that many pages. */
  readonly maxPages?: number
}
