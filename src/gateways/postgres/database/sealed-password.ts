import { createRequire } from 'node:module'
import type { TLSSocket } from 'node:tls'
import { ChaperoneError } from '../../../errors.ts'
import { saslInitialResponse, saslResponse } from '../wire/write.ts'
import { ASKS, askedBy, askedWith, nameOfAsked } from './authentication.ts'
import type { Credential } from './credential.ts'

/**
 * SCRAM-SHA-256 as node-postgres does it (RFC 5802, RFC 7677): nonces, SASLprep, channel binding by the server's
 * certificate when the server offers it, and the server must prove that it knows the password too.
 */
interface Sasl {
  startSession(mechanisms: readonly string[], stream: TLSSocket, mostIterations: number): SaslSession
  continueSession(session: SaslSession, password: string, said: string, stream: TLSSocket): Promise<void>
  finalizeSession(session: SaslSession, said: string): void
}

interface SaslSession {
  readonly mechanism: string
  readonly response: string
}

/** Not part of the types of `pg`, but of what its package exports. */
const sasl = createRequire(import.meta.url)('pg/lib/crypto/sasl.js') as Sasl

/** RFC 7677 asks for at least so many; with fewer, whoever reads the exchange (or the server's verifier) guesses faster. */
const FEWEST_ITERATIONS = 4096
/** PostgreSQL's own default is 4096. A server that asks for millions would keep our cores busy with every connection. */
const MOST_ITERATIONS = 100_000

/**
 * A password that was sealed for this database user. It is never sent: SCRAM proves both ways that it is known. MD5 is
 * refused (what the server stores is enough to log in with) and so is cleartext (whoever is at the other end has it then).
 */
export function sealedPassword(password: string): Credential {
  let state: 'begun' | { readonly session: SaslSession; answered: boolean } | 'proven' = 'begun'

  return {
    secret: password,
    async answer(frame, socket) {
      const asked = askedBy(frame)
      const said = askedWith(frame)
      try {
        if (asked === ASKS.nothing && state === 'proven') return 'accepted'
        if (asked === ASKS.sasl && state === 'begun') {
          const session = sasl.startSession(mechanismsOf(said), socket, MOST_ITERATIONS)
          state = { session, answered: false }
          return saslInitialResponse(session.mechanism, session.response)
        }
        if (asked === ASKS.saslContinue && typeof state === 'object' && !state.answered) {
          const text = said.toString('utf8')
          // Said twice, the library would take the last one.
          const [iterations, another] = [...text.matchAll(/(?:^|,)i=([^,]*)/g)].map(([, said]) => said)
          if (another !== undefined || !(Number(iterations) >= FEWEST_ITERATIONS)) throw new Error(`it asks for ${iterations ?? 'no'} iterations`)
          state.answered = true
          await sasl.continueSession(state.session, password, text, socket)
          return saslResponse(state.session.response)
        }
        if (asked === ASKS.saslFinal && typeof state === 'object' && state.answered) {
          sasl.finalizeSession(state.session, said.toString('utf8'))
          state = 'proven'
          return undefined
        }
      } catch (error) {
        // The library's words hold what the server said, never the password.
        throw new ChaperoneError('upstream_unavailable', 'The database and Chaperone could not prove to each other that they know the password.', {
          detail: error instanceof Error ? error.message : String(error),
          fix: `The password must be stored as SCRAM-SHA-256 with ${FEWEST_ITERATIONS} to ${MOST_ITERATIONS} iterations, and the sealed one must be the same.`,
        })
      }
      throw new ChaperoneError('upstream_unavailable', `The database asks for ${nameOfAsked(asked)} where SCRAM-SHA-256 was expected.`, {
        fix:
          asked === ASKS.nothing
            ? 'Anybody who reaches it gets in: replace `trust` with `scram-sha-256` in pg_hba.conf.'
            : 'Set password_encryption to scram-sha-256, set the password again, and write scram-sha-256 in pg_hba.conf.',
      })
    },
  }
}

const mechanismsOf = (said: Buffer) =>
  said
    .toString('latin1')
    .split('\0')
    .filter((name) => name !== '')
