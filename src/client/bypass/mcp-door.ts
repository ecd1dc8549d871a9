import { type Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { type ProxyEnvironment, proxyFor, proxyName } from '../../network/proxy.ts'
import { agentFor } from '../../network/tunnel.ts'
import { type Finding, PROBE } from './finding.ts'

const HELLO = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'chaperone-doctor', version: '1' } },
})

/** What a proxy says when it does not lead there: of plain http it cannot be told from an answer of the server. */
const NOT_BY_PROXY = new Set([403, 407, 502, 503, 504])

/**
 * Says hello to an MCP server without a credential, as any program on this computer could: directly, and else through the proxy that
 * programs here are told to use. Nothing secret is sent, so its certificate is not looked at: a server that somebody else stands in
 * for is a door all the same.
 */
export async function tryMcp(
  name: string,
  given: string,
  { timeoutMs = PROBE.timeoutMs, env = process.env }: { readonly timeoutMs?: number; readonly env?: ProxyEnvironment } = {},
): Promise<Finding> {
  const { origin, pathname, host, hostname, port, protocol } = new URL(given)
  // Without what may be a secret in an address: a name with a password, and a query.
  const url = `${origin}${pathname}`
  const base = { what: `mcp/${name}`, where: url }
  const secure = protocol === 'https:'
  const to = { host: hostname, port: Number(port) || (secure ? 443 : 80), secure }
  let proxy: URL | undefined
  let answer: { status: number; text: string }
  try {
    answer = await post(url, timeoutMs).catch((cause: unknown) => {
      proxy = proxyFor(to, env)
      if (!proxy) throw cause
      return post(url, timeoutMs, agentFor(to, { rejectUnauthorized: false }, env))
    })
    if (proxy && !secure && NOT_BY_PROXY.has(answer.status)) throw new Error(`its proxy says HTTP ${answer.status}`)
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message
    return { ...base, state: 'closed', says: `cannot be reached from here (${code})` }
  }
  const { status, text } = answer
  const by = proxy ? ` through the proxy ${proxyName(proxy)}` : ''
  const wall = `Let only the host of Chaperone in to ${host}: a firewall, a security group or a network policy${proxy ? ', and a rule of the proxy' : ''}.`
  if (status === 401 || status === 403 || status === 407) {
    return {
      ...base,
      state: 'guarded',
      says: `answers from here${by}, and wants a credential (HTTP ${status})`,
      fix: `${wall} Until then whoever has a token of his own goes around.`,
    }
  }
  if (status >= 200 && status < 300 && /"(?:result|protocolVersion)"\s*:/.test(text)) {
    return {
      ...base,
      state: 'open',
      says: `lets anybody in${by}: it answered without a credential`,
      fix: `${wall} Or have it want a token, and give that to Chaperone: headers: { Authorization: { secret: NAME } }`,
    }
  }
  if (status === 400 || /"jsonrpc"/.test(text)) {
    return { ...base, state: 'open', says: `talks to anybody${by}: it answered without asking for a credential (HTTP ${status})`, fix: wall }
  }
  return { ...base, state: 'unclear', says: `answers from here${by} with HTTP ${status}`, fix: wall }
}

function post(address: string, timeoutMs: number, agent?: Agent): Promise<{ status: number; text: string }> {
  const url = new URL(address)
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'content-length': String(Buffer.byteLength(HELLO)),
  }
  return new Promise((done, fail) => {
    const options = { method: 'POST', headers, signal: AbortSignal.timeout(timeoutMs), rejectUnauthorized: false, ...(agent ? { agent } : {}) }
    const take = (answer: IncomingMessage) => {
      let text = ''
      const finish = () => {
        answer.destroy()
        done({ status: answer.statusCode ?? 0, text })
      }
      answer.setEncoding('utf8')
      answer.on('data', (chunk: string) => {
        text += chunk
        // A stream may stay open for ever; the first message says it all.
        if (text.length > PROBE.answer || (text.includes('"jsonrpc"') && text.trimEnd().endsWith('}'))) finish()
      })
      answer.on('end', finish)
      answer.on('error', finish)
    }
    const out = url.protocol === 'https:' ? httpsRequest(url, options, take) : httpRequest(url, options, take)
    out.on('error', fail)
    out.on('close', () => agent?.destroy())
    out.end(HELLO)
  })
}
