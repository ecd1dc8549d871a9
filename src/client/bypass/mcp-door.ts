import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { type Finding, PROBE } from './finding.ts'

const HELLO = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'chaperone-doctor', version: '1' } },
})

/**
 * Says hello to an MCP server without a credential, as any program on this computer could. Nothing secret is sent, so its
 * certificate is not looked at: a server that somebody else stands in for is a door all the same.
 */
export async function tryMcp(name: string, url: string, timeoutMs: number = PROBE.timeoutMs): Promise<Finding> {
  const base = { what: `mcp/${name}`, where: url }
  let answer: { status: number; text: string }
  try {
    answer = await post(url, timeoutMs)
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message
    return { ...base, state: 'closed', says: `cannot be reached from here (${code})` }
  }
  const { status, text } = answer
  const host = new URL(url).host
  const wall = `Let only the host of Chaperone in to ${host}: a firewall, a security group or a network policy.`
  if (status === 401 || status === 403 || status === 407) {
    return {
      ...base,
      state: 'guarded',
      says: `answers from here, and wants a credential (HTTP ${status})`,
      fix: `${wall} Until then whoever has a token of his own goes around.`,
    }
  }
  if (status >= 200 && status < 300 && /"(?:result|protocolVersion)"\s*:/.test(text)) {
    return {
      ...base,
      state: 'open',
      says: 'lets anybody in: it answered without a credential',
      fix: `${wall} Or have it want a token, and give that to Chaperone: headers: { Authorization: { secret: NAME } }`,
    }
  }
  if (status === 400 || /"jsonrpc"/.test(text)) {
    return { ...base, state: 'open', says: `talks to anybody: it answered without asking for a credential (HTTP ${status})`, fix: wall }
  }
  return { ...base, state: 'unclear', says: `answers from here with HTTP ${status}`, fix: wall }
}

function post(address: string, timeoutMs: number): Promise<{ status: number; text: string }> {
  const url = new URL(address)
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'content-length': String(Buffer.byteLength(HELLO)),
  }
  return new Promise((done, fail) => {
    const options = { method: 'POST', headers, signal: AbortSignal.timeout(timeoutMs), rejectUnauthorized: false }
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
        if (text.length > PROBE.answer || /"jsonrpc"[\s\S]*\}\s*$/.test(text)) finish()
      })
      answer.on('end', finish)
      answer.on('error', finish)
    }
    const out = url.protocol === 'https:' ? httpsRequest(url, options, take) : httpRequest(url, options, take)
    out.on('error', fail)
    out.end(HELLO)
  })
}
