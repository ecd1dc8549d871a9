import { selectClientAuthMethod } from '@modelcontextprotocol/client'
import type { LoginContext, LoginServer } from './logins.ts'
import type { HeldLogin } from './oauth-rows.ts'

/**
 * Asks the authorization server to end a login (RFC 7009). The refresh token is enough: what hangs on it ends with it.
 * False when it has no such endpoint, or did not do it: then the access token dies by its own age.
 */
export async function revoke(context: LoginContext, server: LoginServer, held: HeldLogin): Promise<boolean> {
  const { metadata } = held
  const endpoint = metadata?.revocation_endpoint
  if (endpoint === undefined) return false
  const client = await context.withSecret(server, held.client)
  const supported = metadata?.revocation_endpoint_auth_methods_supported ?? held.metadata?.token_endpoint_auth_methods_supported ?? []
  const method = selectClientAuthMethod(client, [...supported])
  const body = new URLSearchParams(
    held.refresh === undefined ? { token: held.access, token_type_hint: 'access_token' } : { token: held.refresh, token_type_hint: 'refresh_token' },
  )
  const headers: Record<string, string> = { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' }
  const secret = client.client_secret
  if (method === 'client_secret_basic' && secret !== undefined) {
    headers.authorization = `Basic ${Buffer.from(`${encodeURIComponent(client.client_id)}:${encodeURIComponent(secret)}`).toString('base64')}`
  } else {
    body.set('client_id', client.client_id)
    if (method === 'client_secret_post' && secret !== undefined) body.set('client_secret', secret)
  }
  const { ok } = await context.outbound(server, held.depth).fetch(endpoint, { method: 'POST', headers, body })
  return ok
}
