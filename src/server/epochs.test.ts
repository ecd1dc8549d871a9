import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Store } from '../store/store.ts'
import { type EpochParts, followEpochs } from './epochs.ts'

/** A world that only notes what is asked of it, in order. `stuck`: what never answers. */
function noted({ stuck }: { stuck?: string } = {}) {
  const calls: string[] = []
  let rise: (epoch: number) => Promise<void> | void = () => {}
  const call = async <T>(name: string, answer: T): Promise<T> => {
    calls.push(name)
    return name === stuck ? new Promise<T>(() => {}) : answer
  }
  const parts = {
    store: {} as Store,
    lease: {
      epoch: () => 1,
      onEpoch(see: typeof rise) {
        rise = see
        return () => calls.push('stopped')
      },
    },
    state: { refresh: (epoch: number) => call(`state ${epoch}`, { locks: [{ target_kind: 'credential' }] }) },
    credentials: { changed: () => calls.push('credentials') },
    sessions: {
      list: () => [],
      review: (_session: unknown, credential?: unknown) => calls.push(credential ? 'sessions and credentials' : 'sessions'),
    },
    guard: { review: () => calls.push('guard'), reviewQuestions: () => calls.push('questions') },
    keyring: { refresh: () => call('keyring', undefined) },
    requests: { rightsChanged: () => calls.push('requests') },
    lockWatch: { look: () => calls.push('locks') },
    rightsWatch: { look: () => calls.push('rights') },
    standing: { whyCut: () => undefined, whyCredential: () => undefined },
  } as unknown as EpochParts
  return { calls, parts, rise: (epoch: number) => rise(epoch) }
}

test('rule 6: what a lock falls on is cut before anything else is asked of the store', async () => {
  const { calls, parts, rise } = noted()
  await followEpochs(parts)
  calls.length = 0
  await rise(2)
  assert.deepEqual(calls, ['state 2', 'credentials', 'sessions and credentials', 'guard', 'keyring', 'requests', 'questions', 'locks', 'rights'])
})

test('rule 6: a key store that does not answer delays no lock', async () => {
  const { calls, parts, rise } = noted({ stuck: 'keyring' })
  await followEpochs(parts)
  calls.length = 0
  void rise(2)
  await new Promise(setImmediate)
  assert.deepEqual(calls, ['state 2', 'credentials', 'sessions and credentials', 'guard', 'keyring'])
})

test('what rose before anybody listened is taken in too', async () => {
  const { calls, parts } = noted()
  const stop = await followEpochs(parts)
  stop()
  assert.deepEqual(calls, ['credentials', 'state 1', 'locks', 'stopped'])
})
