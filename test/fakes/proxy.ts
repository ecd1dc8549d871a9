import { once } from 'node:events'
import { createServer, request as plainRequest } from 'node:http'
import { createServer as createSecureServer, request as secureRequest } from 'node:https'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { TLSSocket } from 'node:tls'

export interface FakeProxy {
  readonly port: number
  /** `CONNECT host:port` and `GET http://...`, in order */
  readonly seen: string[]
  /** the Proxy-Authorization of each */
  readonly authorizations: (string | undefined)[]
  close(): Promise<void>
}

export interface ProxyKnobs {
  /** `user:password`; without it everybody may pass */
  readonly login?: string
  /** answers CONNECT with this instead of a tunnel */
  readonly status?: number
  /** Where a name leads: the proxy resolves, not the client. Default: 127.0.0.1. */
  readonly to?: (host: string, port: number) => { readonly host: string; readonly port: number }
  /** Opens TLS, as inspecting proxies do: shows this certificate to the client, and speaks TLS of its own to the server. */
  readonly inspect?: { readonly key: string; readonly cert: string }
}

/** A company's proxy: CONNECT with Basic authentication, absolute-form requests, and, where asked for, inspection of TLS. */
export async function fakeProxy({ login, status, to, inspect }: ProxyKnobs = {}): Promise<FakeProxy> {
  const seen: string[] = []
  const authorizations: (string | undefined)[] = []
  const sockets = new Set<Socket>()
  const allowed = (header: string | undefined) => login === undefined || header === `Basic ${Buffer.from(login).toString('base64')}`
  const way = to ?? ((_host, port) => ({ host: '127.0.0.1', port }))
  const inspector =
    inspect &&
    createServer((request, response) => {
      const onward = secureRequest(
        {
          host: '127.0.0.1',
          port: Number(/:(\d+)$/.exec(seen.at(-1)!)?.[1]),
          path: request.url,
          method: request.method,
          headers: request.headers,
          rejectUnauthorized: false,
          agent: false,
        },
        (answer) => {
          response.writeHead(answer.statusCode ?? 502, answer.headers)
          answer.pipe(response)
        },
      )
      onward.on('error', () => response.destroy())
      request.pipe(onward)
    })

  const server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`)
    authorizations.push(request.headers['proxy-authorization'])
    if (!allowed(request.headers['proxy-authorization'])) return void response.writeHead(407).end()
    const url = new URL(request.url ?? '')
    const { 'proxy-authorization': _, 'proxy-connection': __, ...headers } = request.headers
    const onward = plainRequest(
      { ...way(url.hostname, Number(url.port) || 80), path: url.pathname + url.search, method: request.method, headers, agent: false },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
      },
    )
    onward.on('error', () => response.destroy())
    request.pipe(onward)
  })
  server.on('connect', (request, socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    seen.push(`CONNECT ${request.url}`)
    authorizations.push(request.headers['proxy-authorization'])
    if (!allowed(request.headers['proxy-authorization'])) return void socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n')
    if (status !== undefined) return void socket.end(`HTTP/1.1 ${status} No\r\ncontent-length: 0\r\n\r\n`)
    const [, host = '', port = ''] = /^(.*):(\d+)$/.exec(request.url ?? '') ?? []
    if (inspect && inspector) {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      const secure = new TLSSocket(socket, { isServer: true, key: inspect.key, cert: inspect.cert })
      secure.on('error', () => secure.destroy())
      inspector.emit('connection', secure)
      return
    }
    const onward = connect(way(host.replace(/^\[|\]$/g, ''), Number(port)))
    sockets.add(onward)
    onward.on('error', () => socket.destroy())
    onward.once('connect', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      onward.pipe(socket)
      socket.pipe(onward)
    })
    onward.once('close', () => socket.destroy())
    socket.once('close', () => onward.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    seen,
    authorizations,
    async close() {
      for (const socket of sockets) socket.destroy()
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    },
  }
}

/** A load balancer that ends TLS: its own certificate to the client, TLS anew to the server, and the client's address in a header. */
export async function fakeBalancer(options: {
  readonly key: string
  readonly cert: string
  readonly target: string
  /** what it does to the headers; default: appends to X-Forwarded-For */
  readonly headers?: (given: NodeJS.Dict<string | string[]>, from: string) => NodeJS.Dict<string | string[]>
}): Promise<{ readonly port: number; close(): Promise<void> }> {
  const [host, port] = options.target.split(':')
  const append = (given: NodeJS.Dict<string | string[]>, from: string) => ({
    ...given,
    'x-forwarded-for': [given['x-forwarded-for'], from].flat().filter(Boolean).join(', '),
  })
  const server = createSecureServer({ key: options.key, cert: options.cert }, (request, response) => {
    const headers = (options.headers ?? append)(request.headers, request.socket.remoteAddress ?? '')
    // A connection for each: one that is kept may be closed by the server at the moment when it is used again.
    const onward = secureRequest(
      { host, port, path: request.url, method: request.method, headers, rejectUnauthorized: false, agent: false },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
      },
    )
    onward.on('error', () => response.destroy())
    request.pipe(onward)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    },
  }
}
