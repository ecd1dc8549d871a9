import type { IncomingMessage, ServerResponse } from 'node:http'
import { directorySpec } from '../../catalog/directory.ts'
import { ChaperoneError, REASONS, toChaperoneError } from '../../errors.ts'
import { findIdentity } from '../../identity/directory.ts'
import type { IssuerKeys } from '../../identity/joining/method.ts'
import { useProof, wasUsed } from '../../identity/joining/used-proofs.ts'
import { addressOf } from '../../network/forwarded.ts'
import { boundBody } from '../oauth/body.ts'
import { recordRefusals } from '../recorded.ts'
import { LONGEST_LOGOUT_TOKEN, readLogoutToken, type SignedOut } from './logout-token.ts'
import { changed, type PeopleParts } from './people.ts'
import type { SignIns } from './sign-ins.ts'

/** OpenID Connect Back-Channel Logout 1.0: a provider says here, server to server, that somebody has signed out there, or was thrown out. */
export interface BackChannel {
  has(path: string): boolean
  handle(request: IncomingMessage, response: ServerResponse): Promise<void>
  /** Ends what came of the sign-ins that the token means. Throws `directory_refused`, `upstream_unavailable`, `not_found`. */
  signedOut(directory: string, token: string): Promise<void>
}

interface BackChannelParts extends Pick<PeopleParts, 'store' | 'audit' | 'clock'> {
  readonly keys: IssuerKeys
  readonly signIns: Pick<SignIns, 'signedOut' | 'meant' | 'end'>
  /** The `directory` documents that hold now. */
  readonly documents: () => readonly { readonly name: string; readonly spec: unknown }[]
  /** Throws when this address has shown too many wrong tokens. */
  readonly throttle: (address: string) => void
  readonly log: (error: ChaperoneError, where: string) => void
}

const PATH = /^\/signin\/with\/([A-Za-z0-9._-]{1,63})\/logout$/
const MOST_BYTES = 2 * LONGEST_LOGOUT_TOKEN
/** A name counts once for each issuer: two may number alike. */
const SCOPE = 'logout-token'

export function openBackChannel(parts: BackChannelParts): BackChannel {
  const { store, audit, clock, keys, signIns, throttle } = parts
  const recorded = recordRefusals(audit)

  const channel: BackChannel = {
    has: (path) => PATH.test(path),

    signedOut(directory, token) {
      return recorded('credential.refused', { data: { how: 'back-channel logout', directory: directory.slice(0, 64) } }, async () => {
        const found = parts.documents().find(({ name }) => name === directory)
        const spec = found && directorySpec.parse(found.spec)
        if (spec?.issuer === undefined || spec.client_id === undefined) throw new ChaperoneError('not_found', 'There is no such directory.')
        const { issuer, client_id: clientId, jwks, ca, allow_private: allowPrivate } = spec
        const keysOf = (kid: string | undefined) => keys.of({ issuer, jwks, ca, allowPrivate }, kid)
        const said = await readLogoutToken(token, { issuer, clientId, now: clock.now(), keys: keysOf })
        const once = { key: `${issuer}\n${said.once.key}`, until: said.once.until }
        await endOnce({ directory, issuer }, said, once)
      })
    },

    async handle(request, response) {
      const answer = (status: number, body?: { readonly error: string; readonly error_description: string }) => {
        const text = body === undefined ? '' : JSON.stringify(body)
        const type = body === undefined ? {} : { 'Content-Type': 'application/json' }
        response.writeHead(status, { ...HEADERS, ...type, 'Content-Length': Buffer.byteLength(text) }).end(text)
      }
      if (request.method !== 'POST') return void response.writeHead(405, { ...HEADERS, Allow: 'POST' }).end()
      const directory = PATH.exec((request.url ?? '').split('?', 1)[0]!)?.[1] ?? ''
      try {
        await channel.signedOut(directory, await tokenIn(request))
        answer(200)
      } catch (thrown) {
        const error = toChaperoneError(thrown)
        try {
          throttle(addressOf(request))
        } catch {
          return answer(429, { error: 'temporarily_unavailable', error_description: 'Too many attempts from this address.' })
        }
        if (REASONS[error.code].http >= 500) parts.log(error, 'back-channel logout')
        // Section 2.8: whatever the cause. Which directories one signs in at stands on the sign-in page; of any other nothing is said.
        const description = error.code === 'directory_refused' || error.code === 'malformed' ? error.message : 'The logout did not work here.'
        answer(400, { error: 'invalid_request', error_description: description })
      }
    },
  }

  async function endOnce(from: { directory: string; issuer: string }, { sid, subject }: SignedOut, once: SignedOut['once']): Promise<void> {
    if (await wasUsed(store.db, SCOPE, once.key)) throw usedBefore()
    const by = { ...(sid === undefined ? {} : { sid }), ...(subject === undefined ? {} : { subject }) }
    await signIns.signedOut(from, by)
    const meant = await signIns.meant(from, by)
    for (const identityId of new Set(meant.map((one) => one.identity_id))) {
      const person = await findIdentity(store.db, { id: identityId })
      const his = meant.filter((one) => one.identity_id === identityId).map(({ id }) => id)
      const which = { signIns: his.slice(0, 20), ...by }
      if (person) await audit.append(changed(from.directory, person, 'signed out there', which))
    }
    // In the transaction of the end: used up with nothing ended, the provider could not say it again.
    await signIns.end(meant, 'provider', async (trx) => {
      if (!(await useProof(trx, SCOPE, once))) throw usedBefore()
    })
  }
  return channel
}

const HEADERS = { 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' } as const

const usedBefore = () => new ChaperoneError('directory_refused', 'The logout token is not valid: it was used before.')

/** Section 2.5: one parameter in a form. */
async function tokenIn(request: IncomingMessage): Promise<string> {
  const type = request.headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase()
  if (type !== 'application/x-www-form-urlencoded') throw new ChaperoneError('malformed', 'The body must be application/x-www-form-urlencoded.')
  boundBody(request, MOST_BYTES)
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const given = new URLSearchParams(Buffer.concat(chunks).toString('utf8')).getAll('logout_token')
  if (given.length !== 1) throw new ChaperoneError('malformed', 'The body has one `logout_token`.')
  return given[0]!
}
