import type { Command } from 'commander'
import type { Callback } from '../client/callback.ts'
import { ChaperoneError } from '../errors.ts'
import { type ServerFlags, segment, wholeNumber, withApi, withServer } from './connection.ts'
import { line, printable, say } from './output.ts'

type Flags = ServerFlags & { readonly port?: number; readonly browser?: boolean }

/** Chaperone asks several servers in turn, each with a limit of its own. */
const SLOW_MS = 120_000

/** `chaperone mcp login` and `logout`: Chaperone's own login at a server that wants OAuth; nobody is shown what it is given. */
export function login(command: Command): void {
  withServer(command.command('login').description('log in at an MCP server that wants OAuth, in your browser'))
    .argument('<name>', 'name of the MCP server')
    .option('--port <number>', 'where the browser brings the answer on this machine; default: any free one', wholeNumber('--port', 1, 65_535))
    .option('--no-browser', 'only print the address, and take the one that the browser ends at')
    .addHelpText('after', '\nExample:\n  chaperone mcp login linear')
    .action(async (name: string, flags: Flags) => {
      const { openCallback } = await import('../client/callback.ts')
      const door = await openCallback(flags.port)
      try {
        const path = `/v1/mcp/${segment(name)}/login`
        const begun = await withApi(flags, (api) =>
          api.call<{ url: string; expiresAt: number }>('POST', path, { redirect: door.redirect }, { timeoutMs: SLOW_MS }),
        )
        const { isOpenable, openBrowser } = await import('../client/open-browser.ts')
        const url = URL.parse(begun.url)
        // What the server of Chaperone has checked is checked again where it is opened (CVE-2025-6514).
        if (!url || !isOpenable(url)) throw new ChaperoneError('upstream_unavailable', 'The address for the login is not https.')
        say(`log in here, within ten minutes: ${url.href}`)
        if (flags.browser !== false) openBrowser(url, () => say('no browser could be opened: open the address yourself'))
        const state = url.searchParams.get('state') ?? ''
        const answer = await first(door.answer(state), flags.browser === false, begun.expiresAt - Date.now())
        if (answer.state !== state) throw new ChaperoneError('usage', 'That is the answer to another login.')
        const done = await withApi(flags, (api) =>
          api.call<{ issuer: string; scope?: string }>('POST', '/v1/mcp-logins/finish', answer, { timeoutMs: SLOW_MS }),
        )
        line(`Logged in at ${printable(done.issuer)} for ${printable(name)}${done.scope === undefined ? '' : `, with ${printable(done.scope)}`}.`)
      } finally {
        door.close()
      }
    })

  withServer(command.command('logout').description('forget the login at an MCP server'))
    .argument('<name>', 'name of the MCP server')
    .addHelpText('after', '\nExample:\n  chaperone mcp logout linear')
    .action(async (name: string, flags: Flags) => {
      const { revoked } = await withApi(flags, (api) => api.call<{ revoked: boolean }>('DELETE', `/v1/mcp/${segment(name)}/login`))
      line(`Logged out of ${printable(name)}.${revoked ? '' : ' Its authorization server did not end the tokens; nobody has them any more.'}`)
    })
}

/** From the browser on this machine, or pasted: a browser elsewhere ends at an address that it cannot open. */
async function first(answer: Promise<Callback>, paste: boolean, ms: number): Promise<Callback> {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), Math.max(ms, 0))
  const { createInterface } = await import('node:readline/promises')
  const reader = paste ? createInterface({ input: process.stdin, output: process.stderr }) : undefined
  const pasted = reader?.question('Address that the browser ended at: ', { signal: late.signal }).then(readPasted)
  const expired = new Promise<never>((_, reject) => {
    late.signal.addEventListener('abort', () => reject(new ChaperoneError('upstream_timeout', 'Nobody logged in within ten minutes.')))
  })
  try {
    return await Promise.race([answer, expired, ...(pasted ? [pasted] : [])])
  } finally {
    clearTimeout(timer)
    reader?.close()
  }
}

async function readPasted(text: string): Promise<Callback> {
  const { answerIn } = await import('../client/callback.ts')
  const url = URL.parse(text.trim())
  const answer = url ? answerIn(url) : undefined
  if (!answer) throw new ChaperoneError('usage', 'That is not the address that a login ends at.')
  return answer
}
