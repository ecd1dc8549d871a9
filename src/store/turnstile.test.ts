import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { turnstileOf } from './turnstile.ts'

const worker = (path: string, code: string) =>
  new Worker(
    `const { parentPort } = require('node:worker_threads')
     import(${JSON.stringify(new URL('./turnstile.ts', import.meta.url).href)}).then(({ turnstileOf }) => {
       const turns = turnstileOf(${JSON.stringify(path)})
       ${code}
     })`,
    { eval: true },
  )

test('threads are served in the order they came', async () => {
  const turns = turnstileOf('/store/order')
  const leave = await turns.enter()
  const other = worker('/store/order', `const leave = turns.enterAsleep(); parentPort.postMessage('served'); leave()`)
  const ended = once(other, 'exit')
  const order: string[] = []
  other.on('message', (message: string) => message === 'served' && order.push('other'))
  while (turns.waiting() < 2) await new Promise((again) => setImmediate(again)) // until it has its ticket
  const mine = turns.enter().then((done) => {
    done()
    return turns.waiting()
  })
  assert.equal(turns.waiting(), 3)
  leave()
  assert.equal(await mine, 0, 'the other, who came before, is done')
  await ended
  assert.deepEqual(order, ['other'])
})

test('many threads, each in its turn: nobody is inside with another', async () => {
  const turns = turnstileOf('/store/many')
  let inside = 0
  const turn = async () => {
    const leave = await turns.enter()
    assert.equal(++inside, 1)
    await new Promise((again) => setImmediate(again))
    inside--
    leave()
  }
  await Promise.all(Array.from({ length: 50 }, turn))
})

test('a thread that ended with its ticket is passed over', async () => {
  const turns = turnstileOf('/store/dead', 50)
  const dead = worker('/store/dead', 'turns.enterAsleep(); process.exit()')
  await once(dead, 'exit')
  const first = await turns.enter()
  first()
  turnstileOf('/store/dead', 50).enterAsleep()()
  ;(await turns.enter())()
})
