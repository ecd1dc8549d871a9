import type { Verb } from '../access/administration.ts'
import type { Named } from '../audit/record.ts'

/** A file as its author wrote it. `path` is only for messages: it is never opened here. */
export interface SourceFile {
  readonly path: string
  readonly text: string
}

/** Where something stands. Line and column count from 1. */
export interface Place {
  readonly file: string
  readonly line: number
  readonly column: number
}

/** One fault in a document: where it stands and how to mend it. */
export interface Problem extends Place {
  readonly message: string
  readonly fix?: string
  readonly level: 'error' | 'warning'
}

/** Keys and positions from the root of a document: `['spec', 'allow', 0, 'tools']`. */
export type Path = readonly (string | number)[]

/** A fault that knows its path but not yet its line; `path` counts from the `spec`. */
export interface Fault {
  readonly path: Path
  readonly message: string
  readonly fix?: string
  readonly level?: 'error' | 'warning'
  /** The fault is about the key at the end of the path, not about its value. */
  readonly atKey?: boolean
}

/** What one kind of document must say. */
export interface DocumentKind {
  readonly kind: string
  /** What is wrong with this name, or undefined. */
  nameFault(name: string): string | undefined
  /** The validated spec with its defaults filled in, or what is wrong with it. Never throws. */
  check(spec: unknown, name: string): { readonly spec?: Readonly<Record<string, unknown>>; readonly faults: readonly Fault[] }
}

export type DocumentKinds = ReadonlyMap<string, DocumentKind>

/** A document in its canonical form: what is digested, stored and shown. */
export interface PlainDocument {
  readonly kind: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly spec: Readonly<Record<string, unknown>>
}

/** A valid document that knows where each of its parts was written. */
export interface ParsedDocument extends PlainDocument {
  /** The place of the value at `path` (from the root of the document), or of the nearest part above it. */
  place(path: Path, atKey?: boolean): Place
}

/** A document as applied. */
export interface StoredDocument extends PlainDocument {
  readonly id: string
  readonly digest: string
  readonly owner: string | null
  readonly updatedAt: number
}

export interface Change {
  readonly op: 'create' | 'update' | 'delete' | 'unchanged'
  readonly kind: string
  readonly name: string
  /** unified diff of the YAML; absent when unchanged */
  readonly diff?: string
}

export interface Applied {
  readonly changes: readonly Change[]
  readonly warnings: readonly Problem[]
  /** the epoch that the change raised; absent when nothing changed or in a dry run */
  readonly epoch?: number
}

/** Who applies, and which administration verbs they hold: nobody grants what they do not have (design 3.8). */
export interface Applier {
  readonly actor: Named
  readonly chain?: readonly (Named & { readonly delegation?: string })[]
  readonly session?: string
  holds(verb: Verb): boolean
}
