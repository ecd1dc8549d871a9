import type { Json } from '../gateways/mcp/text/modern-headers.ts'

/** What the shim reads of its client: the name it gives itself. Pure. */
export type Message = Json

const CLIENT_INFO = 'io.modelcontextprotocol/clientInfo'

const isObject = (value: unknown): value is Message => typeof value === 'object' && value !== null && !Array.isArray(value)

/** What the client calls itself, in either era. Self-reported: good for a label, never for a decision. */
export function clientNameIn(message: Message): string | undefined {
  const params = isObject(message.params) ? message.params : {}
  const meta = isObject(params._meta) ? params._meta : {}
  const info = isObject(params.clientInfo) ? params.clientInfo : meta[CLIENT_INFO]
  return isObject(info) && typeof info.name === 'string' ? info.name : undefined
}

/** A client's own name as a part of an identity's name: lower case, digits and dashes. */
export function clientLabel(name: string | undefined): string {
  const label = (name ?? '')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 40)
    .replace(/-+$/, '')
  return label || 'mcp-client'
}
