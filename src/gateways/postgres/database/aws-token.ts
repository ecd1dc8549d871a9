import { ChaperoneError } from '../../../errors.ts'
import { passwordMessage } from '../wire/write.ts'
import { ASKS, askedBy, nameOfAsked } from './authentication.ts'
import type { Credential, LogInAs } from './credential.ts'
import { hostAndPort } from './upstream.ts'

/** A token is some 1 kB; session tokens of assumed roles make it longer. */
const LONGEST_TOKEN = 16 * 1024

/**
 * A login of AWS IAM (RDS, Aurora): a signed request that is good for fifteen minutes, for this user at this address
 * only, made for each connection with the AWS credentials that Chaperone's own process has. It goes as a cleartext password,
 * the one way that RDS knows, so it is sent only where the server's certificate was checked: in `secureSocket`, always.
 */
export async function awsToken({ user, spec }: LogInAs, region: string): Promise<Credential> {
  const { host, port } = hostAndPort(spec.address)
  const token = await sign(host, port, user, region)
  let sent = false
  return {
    secret: token,
    async answer(frame) {
      const asked = askedBy(frame)
      if (asked === ASKS.cleartext && !sent) {
        sent = true
        return passwordMessage(token)
      }
      if (asked === ASKS.nothing && sent) return 'accepted'
      throw new ChaperoneError('upstream_unavailable', `The database asks for ${nameOfAsked(asked)} where an IAM token was expected.`, {
        fix: 'Switch on IAM authentication of the instance, and give the user its role: GRANT rds_iam TO the user.',
      })
    },
  }
}

async function sign(hostname: string, port: number, username: string, region: string): Promise<string> {
  try {
    // Loaded when the first database needs it: it reads files and environment for credentials.
    const { Signer } = await import('@aws-sdk/rds-signer')
    const token = await new Signer({ hostname, port, username, region }).getAuthToken()
    if (Buffer.byteLength(token) > LONGEST_TOKEN) throw new Error('the token is too long')
    return token
  } catch (error) {
    throw new ChaperoneError('upstream_unavailable', 'AWS gave no credentials to sign in to the database with.', {
      // Its messages name files and roles, for the operator only.
      detail: error instanceof Error ? error.message : String(error),
      fix: 'Give the process of Chaperone an AWS role that may call rds-db:connect for this user.',
    })
  }
}
