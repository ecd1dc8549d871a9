import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { manualClock } from '../clock.ts'
import { openStore } from '../store/open.ts'
import type { Database } from '../store/store.ts'
import { chaperoneVocabulary } from './administration.ts'
import { keepState } from './state.ts'

test('rule 1: a load that fails leaves the old state, and the next one is tried afresh', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'chaperone-state-'))
  const store = await openStore({ dataDir: dir }, { clock: manualClock(0) })
  t.after(async () => {
    await store.close()
    rmSync(dir, { recursive: true })
  })
  let broken = false
  const db = new Proxy(store.db, {
    get(target, name) {
      if (broken && name === 'selectFrom') throw new Error('the store does not answer')
      const value = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  }) as Database
  const state = await keepState(db, [chaperoneVocabulary], await store.epoch())
  const before = state.current()
  const { epoch } = await store.reduce(async () => {})
  broken = true
  await assert.rejects(state.refresh(epoch))
  assert.equal(state.current(), before)
  broken = false
  assert.equal((await state.refresh(epoch)).epoch, epoch)
})
