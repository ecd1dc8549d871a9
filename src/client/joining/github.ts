import { get } from 'node:https'
import { ChaperoneError } from '../../errors.ts'
import { believed } from '../../network/authorities.ts'
import { agentFor } from '../../network/tunnel.ts'
import { lacking, type Present } from './obtain.ts'

const TIMEOUT_MS = 10_000
const MOST_BYTES = 64 * 1024

/** https://docs.github.com/en/actions/reference/security/oidc#methods-for-requesting-the-oidc-token */
export const presentGithub: Present = async ({ env = process.env, line }, show) => {
  const { ACTIONS_ID_TOKEN_REQUEST_URL: at, ACTIONS_ID_TOKEN_REQUEST_TOKEN: secret } = env
  if (!at || !secret) {
    throw lacking(
      'This job may not ask GitHub for a token of its own.',
      'Give it the permission, in the workflow or the job: permissions: { id-token: write }. Jobs of pull requests from forks never have it.',
    )
  }
  const url = URL.parse(at)
  if (url?.protocol !== 'https:') throw lacking('ACTIONS_ID_TOKEN_REQUEST_URL is no https address.', 'The runner sets it; nothing else should.')
  url.searchParams.set('audience', line.audience)
  const text = await ask(url, secret, env)
  try {
    const { value } = JSON.parse(text) as { readonly value?: unknown }
    if (typeof value === 'string') return await show({ token: value })
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause
  }
  throw failed('no token in the answer')
}

/** Why stands in the message: on a runner there is no log of ours, and a proxy's certificate is nothing that trying again mends. */
const failed = (why: string, cause?: unknown) =>
  new ChaperoneError('upstream_unavailable', `GitHub did not give this job a token: ${why}.`, {
    fix: 'Try again; https://www.githubstatus.com says whether Actions works. Behind a proxy of a company: HTTPS_PROXY, NODE_EXTRA_CA_CERTS.',
    cause,
  })

/** A runner of a company's own stands behind its proxy. The request token is worth a token for any audience: it goes nowhere but where the runner says. */
function ask(url: URL, secret: string, env: NodeJS.ProcessEnv): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const to = { host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port || 443), secure: true }
  const request = get(
    url,
    {
      headers: { authorization: `Bearer ${secret}`, accept: 'application/json' },
      agent: agentFor(to, { ca: believed() }, env),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    },
    (answer) => {
      const chunks: Buffer[] = []
      let size = 0
      answer.on('data', (chunk: Buffer) => {
        size += chunk.length
        chunks.push(chunk)
        if (size > MOST_BYTES) request.destroy(new Error('the answer is too long'))
      })
      // Node tells of an answer that was cut off only here; nothing else would ever settle this.
      answer.once('error', (error) => reject(failed('the answer was cut off', error)))
      answer.once('end', () =>
        answer.statusCode === 200 ? resolve(Buffer.concat(chunks).toString()) : reject(failed(`status ${answer.statusCode}`)),
      )
    },
  )
  request.once('error', (error) => reject(failed(error.message, error)))
  return promise
}
