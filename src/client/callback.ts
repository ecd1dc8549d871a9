import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ChaperoneError } from '../errors.ts'

/** What an authorization server sends the browser back with (RFC 6749 section 4.1.2, RFC 9207). */
export interface Callback {
  readonly state: string
  readonly code?: string
  readonly iss?: string
  readonly error?: string
}

export interface CallbackDoor {
  /** `http://127.0.0.1:PORT/callback` */
  readonly redirect: string
  /** The first answer with this state; whatever else a page in a browser sends here is turned away. */
  answer(state: string): Promise<Callback>
  close(): void
}

const HEADERS = {
  'content-type': 'text/plain; charset=utf-8',
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'",
  'referrer-policy': 'no-referrer',
}
const say = (response: ServerResponse, status: number, text: string) => void response.writeHead(status, { ...HEADERS, connection: 'close' }).end(text)

/** A port of this machine that waits for one login. Throws `usage` when the port is taken. */
export async function openCallback(port = 0): Promise<CallbackDoor> {
  let waiting: { readonly state: string; readonly resolve: (answer: Callback) => void } | undefined
  const server = createServer({ maxHeaderSize: 16 * 1024 }, (request, response) => {
    // Only by this very address: a page that rebinds its name to the loopback has another Host.
    if (request.method !== 'GET' || request.headers.host !== host()) return say(response, 404, 'There is nothing here.\n')
    const url = new URL(request.url ?? '', redirect())
    const answer = url.pathname === '/callback' ? answerIn(url) : undefined
    if (!answer || answer.state !== waiting?.state) return say(response, 404, 'No login waits for this.\n')
    say(response, 200, answer.code === undefined ? 'The login was not given. The command line says more.\n' : 'Done: go back to the command line.\n')
    waiting.resolve(answer)
    waiting = undefined
  })
  server.maxConnections = 16
  server.requestTimeout = 10_000
  const address = () => server.address() as AddressInfo
  const host = () => `127.0.0.1:${address().port}`
  const redirect = () => `http://${host()}/callback`
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new ChaperoneError('usage', `Port ${port} cannot be opened for the login.`, {
          detail: error.code ?? '',
          fix: 'Leave --port out, or name a free one.',
        }),
      ),
    )
    server.listen(port, '127.0.0.1', resolve)
  })
  return {
    redirect: redirect(),
    answer(state) {
      const { promise, resolve } = Promise.withResolvers<Callback>()
      waiting = { state, resolve }
      return promise
    },
    close() {
      server.closeAllConnections()
      server.close()
    },
  }
}

/** Undefined when it is no such answer, or one with a parameter twice. */
export function answerIn({ searchParams }: URL): Callback | undefined {
  const one = (name: string): string | undefined => {
    const all = searchParams.getAll(name)
    return all.length === 1 ? all[0] : undefined
  }
  if (['state', 'code', 'iss', 'error'].some((name) => searchParams.getAll(name).length > 1)) return undefined
  const [state, code, iss, error] = [one('state'), one('code'), one('iss'), one('error')]
  if (state === undefined || (code === undefined) === (error === undefined)) return undefined
  return { state, ...(code === undefined ? {} : { code }), ...(iss === undefined ? {} : { iss }), ...(error === undefined ? {} : { error }) }
}
