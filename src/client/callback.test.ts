import assert from 'node:assert/strict'
import { request } from 'node:http'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { ChaperoneError } from '../errors.ts'
import { answerIn, openCallback } from './callback.ts'

async function door(t: TestContext) {
  const opened = await openCallback()
  t.after(() => opened.close())
  const get = (query: string, headers: Record<string, string> = {}, method = 'GET', path = '/callback') =>
    new Promise<{ status: number | undefined; text: string }>((resolve, reject) => {
      const sent = request(`${opened.redirect.replace('/callback', path)}?${query}`, { method, headers }, (response) => {
        let text = ''
        response.on('data', (chunk) => {
          text += chunk
        })
        response.on('end', () => resolve({ status: response.statusCode, text }))
      })
      sent.on('error', reject)
      sent.end()
    })
  return { ...opened, get }
}

test('the answer with the right state is taken, once', async (t) => {
  const { redirect, answer, get } = await door(t)
  assert.match(redirect, /^http:\/\/127\.0\.0\.1:\d+\/callback$/)
  const awaited = answer('s')
  assert.equal((await get('state=s&code=c&iss=https%3A%2F%2Flogin.test')).status, 200)
  assert.deepEqual(await awaited, { state: 's', code: 'c', iss: 'https://login.test' })
  assert.equal((await get('state=s&code=c')).status, 404)
})

test('what a page in a browser sends by itself is turned away, and repeated by nobody', async (t) => {
  const { answer, get } = await door(t)
  const awaited = answer('s')
  for (const [query, headers, method, path] of [
    ['state=wrong&code=c'],
    ['code=c'],
    ['state=s'],
    ['state=s&code=c&code=d'],
    ['state=s&code=c&error=x'],
    ['state=s&code=c', { host: 'evil.test' }],
    ['state=s&code=c', {}, 'POST'],
    ['state=s&code=c', {}, 'GET', '/'],
  ] as const) {
    const { status, text } = await get(query, headers, method, path)
    assert.deepEqual([status, /state|evil|wrong/.test(text)], [404, false], query)
  }
  await get('state=s&error=access_denied')
  assert.deepEqual(await awaited, { state: 's', error: 'access_denied' })
})

test('a port that is taken is said to be', async (t) => {
  const { redirect } = await door(t)
  await assert.rejects(openCallback(Number(new URL(redirect).port)), (error) => error instanceof ChaperoneError && error.code === 'usage')
})

test('reading an address never fails', () => {
  fc.assert(
    fc.property(fc.webUrl({ withQueryParameters: true }), (url) => {
      answerIn(new URL(url))
    }),
  )
})
