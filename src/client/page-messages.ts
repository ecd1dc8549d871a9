import type { ChaperoneError } from '../errors.ts'
import type { Message } from './mcp-headers.ts'
import type { Id } from './mcp-messages.ts'
import type { SignInPage } from './sign-in-inside.ts'

/** A client that can show its person a page is told of the one to sign in at (URL elicitation of MCP 2025-11-25). Pure. */

/** URLElicitationRequiredError */
const URL_REQUIRED = -32042

/** Said once in the era with sessions, and with each request in the other. */
export function opensPages(message: Message): boolean {
  const params = message.params as Message | undefined
  const meta = params?._meta as Message | undefined
  const said = (message.method === 'initialize' ? params?.capabilities : meta?.['io.modelcontextprotocol/clientCapabilities']) as Message | undefined
  const elicitation = said?.elicitation as Message | undefined
  return elicitation?.url !== undefined && elicitation.url !== null
}

/** The call must wait until the person has been at the page. */
export function pageNeeded(id: Id | null, { code, message }: ChaperoneError, text: string, page: SignInPage): string {
  const elicitations = [{ mode: 'url', elicitationId: page.code, url: page.url, message }]
  return JSON.stringify({ jsonrpc: '2.0', id, error: { code: URL_REQUIRED, message: text, data: { code, elicitations } } })
}

/** The person has been there: the client may send the call again by itself. */
export const pageDone = (page: SignInPage): string =>
  JSON.stringify({ jsonrpc: '2.0', method: 'notifications/elicitation/complete', params: { elicitationId: page.code } })
