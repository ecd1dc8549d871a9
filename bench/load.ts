/** The load: a process of its own that keeps `concurrency` requests under way for `seconds`, and checks every answer. */
import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import { Agent, request as httpsRequest } from 'node:https'

export interface LoadOrder {
  readonly url: string
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  readonly headers: Readonly<Record<string, string>>
  /** the body with `"id":0`; each request gets its own id */
  readonly body: string
  /** every answer must contain this */
  readonly expect: string
  readonly concurrency: number
  readonly warmupMs: number
  readonly ms: number
}

export interface LoadResult {
  readonly rps: number
  readonly p50: number
  readonly p99: number
  readonly failed: number
  readonly firstFailure?: string
}

process.send?.({ ready: true })
process.on('message', (order: LoadOrder) => {
  run(order).then(
    (result) => process.send?.(result),
    (error: Error) => process.send?.({ rps: 0, p50: 0, p99: 0, failed: 1, firstFailure: error.message }),
  )
})

async function run(order: LoadOrder): Promise<LoadResult> {
  const secure = order.url.startsWith('https:')
  const agent = secure
    ? new Agent({ keepAlive: true, maxSockets: order.concurrency, ca: order.ca, cert: order.cert, key: order.key, servername: 'localhost' })
    : new HttpAgent({ keepAlive: true, maxSockets: order.concurrency })
  const send = secure ? httpsRequest : httpRequest
  const url = new URL(order.url)
  const begin = performance.now()
  const measureFrom = begin + order.warmupMs
  const end = measureFrom + order.ms
  const times: number[] = []
  let failed = 0
  let firstFailure: string | undefined
  let id = 0

  const once = () =>
    new Promise<void>((done) => {
      const started = performance.now()
      const body = Buffer.from(order.body.replace('"id":0', `"id":${++id}`))
      const fail = (why: string) => {
        failed++
        firstFailure ??= why
        done()
      }
      const out = send(url, { agent, method: 'POST', headers: { ...order.headers, 'Content-Length': body.length } }, (answer) => {
        let text = ''
        answer.setEncoding('utf8')
        answer.on('data', (chunk: string) => {
          text += chunk
        })
        answer.on('end', () => {
          if (answer.statusCode !== 200 || !text.includes(order.expect)) return fail(`${answer.statusCode} ${text.slice(0, 300)}`)
          const now = performance.now()
          if (started >= measureFrom && now <= end) times.push(now - started)
          done()
        })
      })
      out.on('error', (error) => fail(error.message))
      out.end(body)
    })

  const worker = async () => {
    while (performance.now() < end && failed < 100) await once()
  }
  await Promise.all(Array.from({ length: order.concurrency }, worker))
  agent.destroy()
  times.sort((a, b) => a - b)
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0
  return { rps: times.length / (order.ms / 1000), p50: at(0.5), p99: at(0.99), failed, ...(firstFailure === undefined ? {} : { firstFailure }) }
}

// Nobody is left to measure.
process.on('disconnect', () => process.exit())
