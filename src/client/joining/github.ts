import { ChaperoneError } from '../../errors.ts'
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
  const url = new URL(at)
  url.searchParams.set('audience', line.audience)
  return await show({ token: await askFor(url, secret) })
}

async function askFor(url: URL, secret: string): Promise<string> {
  const failed = (detail: string, cause?: unknown) =>
    new ChaperoneError('upstream_unavailable', 'GitHub did not give this job a token.', {
      fix: 'Try again; https://www.githubstatus.com says whether Actions works.',
      detail,
      cause,
    })
  let answer: Response
  try {
    // The request token is worth a token for any audience: it goes nowhere but where the runner says.
    answer = await fetch(url, {
      headers: { authorization: `Bearer ${secret}`, accept: 'application/json' },
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
  } catch (cause) {
    throw failed(cause instanceof Error ? cause.message : String(cause), cause)
  }
  const text = await answer.text()
  if (!answer.ok || text.length > MOST_BYTES) throw failed(`status ${answer.status}`)
  try {
    const { value } = JSON.parse(text) as { readonly value?: unknown }
    if (typeof value === 'string') return value
  } catch (cause) {
    throw failed('no JSON', cause)
  }
  throw failed('no value')
}
