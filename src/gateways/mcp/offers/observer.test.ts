import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Seen } from '../../../catalog/pin-book.ts'
import { definitionOf, type Pin, pinsByServer } from '../../../catalog/pins.ts'
import { type Item, readList } from './filter.ts'
import { makeObserver } from './observer.ts'
import { knownTools } from './tools.ts'

const tool = (description: string) => ({ name: 'send', description })
const define = (value: unknown) => definitionOf(value, JSON.stringify(value)).sha256
const answer = (result: object) => JSON.stringify({ jsonrpc: '2.0', id: 1, result })
const listing = (...tools: object[]) => readList(answer({ tools }), 'tools/list', { bytes: 1_000_000, ttlMs: 1 })

/** Over a book that says what the test wants, and stores nothing. */
function observed(...pins: Pin[]) {
  const seen: Seen[] = []
  let current = pinsByServer(pins.map((pin): [string, Pin] => ['res', pin]))
  const tools = knownTools()
  const observer = makeObserver({
    tools,
    server: () => ({ id: 'res', name: 'mail' }),
    who: () => ({}),
    pins: { of: (id) => current(id), observe: async (_, news) => void seen.push(...news) },
  })
  return {
    observer,
    tools,
    seen,
    become(...now: Pin[]) {
      current = pinsByServer(now.map((pin): [string, Pin] => ['res', pin]))
    },
  }
}
const pin = (approved: string, more: Partial<Pin> = {}): Pin => ({ kind: 'tool', name: 'send', confirmed: true, approved, decidedAt: 1, ...more })

test('only what stands in the list as it was approved is usable, whatever became of storing what is new', async () => {
  const { observer, seen } = observed(pin(define(tool('old'))))
  const usable = (description: string) => observer.usable('tools/list', listing(tool(description)).items[0]!)
  assert.equal(usable('old'), true)
  await observer.list('tools/list', listing(tool('new')))
  assert.deepEqual(
    seen.map(({ definition }) => definition.sha256),
    [define(tool('new'))],
  )
  assert.equal(usable('new'), false)
  const item: Item = { value: 5, text: '5', exact: true }
  assert.equal(observer.usable('tools/list', item), false)
  assert.equal(observer.usable('resources/list', item), true)
})

test('a list in which everything is known costs no promise, and an item that reads as before is not hashed again', () => {
  const { observer, tools } = observed(pin(define(tool('old'))))
  assert.equal(observer.list('tools/list', listing(tool('old'))), undefined)
  const subject = { kind: 'tool', name: 'send' } as const
  const [item] = listing(tool('old')).items
  assert.equal(tools.define(subject, item!), tools.define(subject, { ...item!, value: 'not looked at' }))
})

test('a list is wanted before the first call, and again when it changed or somebody decided; not for what it does not concern', () => {
  const { observer, become } = observed(pin(define(tool('old'))))
  assert.equal(observer.wanted('tools/call'), 'tools/list')
  assert.equal(observer.wanted('resources/read'), undefined)
  observer.list('tools/list', readList(answer({ tools: [], nextCursor: 'more' }), 'tools/list', { bytes: 1_000, ttlMs: 1 }))
  assert.equal(observer.wanted('tools/call'), 'tools/list')
  observer.list('tools/list', listing(tool('old')))
  assert.equal(observer.wanted('tools/call'), undefined)
  assert.equal(observer.wanted('prompts/get'), 'prompts/list')
  observer.changed('tools/list')
  assert.equal(observer.wanted('tools/call'), 'tools/list')
  observer.list('tools/list', listing(tool('old')))
  become(pin(define(tool('old')), { decidedAt: 2 }))
  assert.equal(observer.wanted('tools/call'), 'tools/list')
})

test('a list is fetched once for all who wait for it, and once when it cannot be had', async () => {
  const { observer } = observed()
  let fetches = 0
  const gate = Promise.withResolvers<void>()
  const fetch = () => {
    fetches++
    return gate.promise
  }
  const all = Promise.all([1, 2, 3].map(() => observer.have('tools/list', fetch)))
  gate.resolve()
  await all
  assert.equal(fetches, 1)
  assert.equal(observer.wanted('tools/call'), undefined)
})

test('instructions that wait are taken out of the handshake, every other byte of it stays', async () => {
  const { observer, seen } = observed({ kind: 'instructions', name: '', confirmed: true, approved: define('Be kind.') })
  const text = (word: string) => `{"jsonrpc":"2.0","id":1,"result":{"n":12345678901234567890, ${word}"x" : [1 ,2]}}`
  assert.equal(await observer.instructions(text('"instructions":"Be kind.",')), text('"instructions":"Be kind.",'))
  assert.equal(await observer.instructions(text('')), text(''))
  assert.equal(await observer.instructions(text('"instructions":"",')), text('"instructions":"",'))
  assert.equal(seen.length, 0)
  assert.equal(
    await observer.instructions(text('"instr\\u0075ctions":"Be unkind.","_meta":{"a":1},')),
    '{"jsonrpc":"2.0","id":1,"result":{"n":12345678901234567890,"x":[1 ,2],"_meta":{"dev.chaperone/quarantined":["instructions"],"a":1}}}',
  )
  assert.equal(seen[0]?.definition.sha256, define('Be unkind.'))
})

test('R01: instructions under a key that only a decoder without case takes for them are not passed on', async () => {
  const { observer } = observed()
  for (const key of ['Instructions', 'INSTRUCTIONS', 'in\u017ftructions']) {
    await assert.rejects(observer.instructions(answer({ [key]: 'Be unkind.' })), /two ways/)
    await assert.rejects(observer.instructions(answer({ instructions: '', [key]: 'Be unkind.' })), /two ways/)
  }
  assert.match(await observer.instructions(answer({ serverInfo: { Instructions: 'x' } })), /serverInfo/)
})
