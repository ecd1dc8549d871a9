import { createHash, timingSafeEqual } from 'node:crypto'
import { parseStrict } from '../encoding/strict-json.ts'
import { ChaperoneError } from '../errors.ts'
import type { WebSession } from '../signin/browser.ts'

/** A form holds a code, a reason, a passkey's answer. */
const MOST_BYTES = 64 * 1024
const MOST_FIELDS = 20

/** What a form said; each field once. */
export type Fields = ReadonlyMap<string, string>

/**
 * Throws `foreign_origin` unless this very origin sent it. Not only the host: a page on another port of the same machine is the same
 * site to a SameSite cookie. A browser that says nothing about where a POST comes from is not believed.
 */
export function assertOwn(request: Request): void {
  const { headers, url } = request
  const origin = headers.get('origin')
  const site = headers.get('sec-fetch-site')
  if (origin !== new URL(url).origin || (site !== null && site !== 'same-origin'))
    throw new ChaperoneError('foreign_origin', 'This was sent from another page.', { detail: `origin ${origin}, sec-fetch-site ${site}` })
}

const digest = (text: string) => createHash('sha256').update(text).digest()

/** Throws `foreign_origin` unless it carries the token of this session's own forms. */
export function assertToken(web: WebSession, given: string | null | undefined): void {
  if (!timingSafeEqual(digest(given ?? ''), digest(web.token)))
    throw new ChaperoneError('foreign_origin', 'This form is not of your session.', { fix: 'Load the page again.' })
}

/** A form as browsers send it, read in one way. Throws `malformed`, `ambiguous`, `too_large`. */
export async function readForm(request: Request): Promise<Fields> {
  if (typeOf(request) !== 'application/x-www-form-urlencoded') throw new ChaperoneError('malformed', 'This is not a form.')
  const text = (await readBytes(request)).toString('utf8')
  const fields = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(text)) {
    if (fields.has(name)) throw new ChaperoneError('ambiguous', 'A field of the form is there twice.')
    if (fields.size >= MOST_FIELDS) throw new ChaperoneError('too_large', 'The form has too many fields.')
    fields.set(name, value)
  }
  return fields
}

/** What the script of a page sent. Throws `malformed`, `ambiguous`, `too_large`. */
export async function readJson(request: Request): Promise<Readonly<Record<string, unknown>>> {
  // A form cannot have this type, so no page elsewhere can send one without asking us first (CORS).
  if (typeOf(request) !== 'application/json') throw new ChaperoneError('malformed', 'The body must be JSON.')
  const { value } = parseStrict(await readBytes(request), { maxBytes: MOST_BYTES })
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ChaperoneError('malformed', 'The body must be an object.')
  return value as Record<string, unknown>
}

const typeOf = (request: Request) => request.headers.get('content-type')?.split(';', 1)[0]?.trim().toLowerCase()

async function readBytes(request: Request): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let size = 0
  if (request.body) {
    for await (const chunk of request.body) {
      size += chunk.byteLength
      if (size > MOST_BYTES) throw new ChaperoneError('too_large', 'The form is too large.')
      chunks.push(chunk)
    }
  }
  return Buffer.concat(chunks)
}
