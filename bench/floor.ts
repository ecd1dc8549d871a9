/**
 * The floor: what any gateway must do at the least. TLS in (the same TLS as Chaperone's), one JSON.parse, one look-up in a
 * set, forward over keep-alive HTTP, answer. No identity, no policy, no record.
 */
import { Agent, request as httpRequest } from 'node:http'
import { createServer } from 'node:https'

interface Start {
  readonly tls: { readonly cert: string; readonly key: string; readonly ca?: string }
  readonly upstream: number
}

process.once('message', ({ tls, upstream }: Start) => {
  const agent = new Agent({ keepAlive: true, maxSockets: 256 })
  const allowed = new Set(['echo', 'big', 'stream'])
  const server = createServer(
    { ...tls, ...(tls.ca === undefined ? {} : { requestCert: true, rejectUnauthorized: true }), minVersion: 'TLSv1.2' },
    (request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        const body = Buffer.concat(chunks)
        const message = JSON.parse(body.toString())
        if (message.method === 'tools/call' && !allowed.has(message.params.name)) return void response.writeHead(403).end()
        const { authorization: _, host: __, connection: ___, ...headers } = request.headers
        const out = httpRequest(
          { agent, host: '127.0.0.1', port: upstream, path: '/', method: 'POST', headers: { ...headers, 'content-length': body.length } },
          (answer) => {
            response.writeHead(answer.statusCode ?? 502, answer.headers)
            answer.pipe(response)
          },
        )
        out.on('error', () => response.destroy())
        out.end(body)
      })
    },
  )
  server.keepAliveTimeout = 60_000
  server.listen(0, '127.0.0.1', () => {
    const address = server.address()
    process.send?.({ port: typeof address === 'object' && address ? address.port : 0 })
  })
})

// Nobody is left to measure.
process.on('disconnect', () => process.exit())
