import type { Kysely, Transaction } from 'kysely'
import type { Tables } from './tables.ts'

export type Database = Kysely<Tables>
export type Write = Transaction<Tables>

/**
 * The open store. One store is one trust domain is one tenant. Reads go through `db`; whatever can reduce rights goes
 * through `reduce`, which raises the epoch in the same transaction.
 */
export interface Store {
  readonly dialect: 'sqlite' | 'postgres'
  readonly db: Database
  /** How another thread opens the same store: a file path or a postgres:// URL. */
  readonly location: string
  /** Runs `work` in one transaction (SQLite: BEGIN IMMEDIATE; writers of this process queue). */
  write<T>(work: (trx: Write) => Promise<T>): Promise<T>
  /** The same, and raises the epoch; returns the new epoch beside the result. */
  reduce<T>(work: (trx: Write) => Promise<T>): Promise<{ result: T; epoch: number }>
  epoch(): Promise<number>
  /** ms since 1970 by the store's own clock (SQLite: this machine's). */
  now(): Promise<number>
  close(): Promise<void>
}
