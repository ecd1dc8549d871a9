import { readFile } from 'node:fs/promises'
import { lacking, type Obtaining, type Present } from './obtain.ts'

const LONGEST = 16 * 1024
/** Where `serviceAccountToken` with a path of `token` is mounted, in the guide. */
const KUBERNETES_FILE = '/var/run/secrets/chaperone/token'

async function fromFile(path: string): Promise<string> {
  let text: string
  try {
    text = (await readFile(path, 'utf8')).trim()
  } catch (error) {
    throw lacking(
      `The token file ${path} cannot be read (${(error as NodeJS.ErrnoException).code}).`,
      'Name the file that holds the token: --token-file FILE.',
    )
  }
  if (text === '' || text.length > LONGEST) throw lacking(`${path} holds no token.`, 'The file holds one signed token (a JWT) and nothing else.')
  return text
}

function fromEnv({ env = process.env }: Obtaining, name: string, fix: string): string {
  const text = env[name]?.trim()
  if (!text) throw lacking(`The variable ${name} is not set.`, fix)
  return text
}

/** A token that something else on this machine has put into a file or a variable. */
export const presentToken: Present = async (ask, show) => {
  if (ask.tokenFile !== undefined) return await show({ token: await fromFile(ask.tokenFile) })
  if (ask.tokenEnv !== undefined) return await show({ token: fromEnv(ask, ask.tokenEnv, 'Name the variable that holds the token.') })
  throw lacking('Where is the token?', 'Say --token-file FILE or --token-env NAME.')
}

/** `id_tokens: CHAPERONE_ID_TOKEN: { aud: ... }` of the job. */
export const presentGitlab: Present = async (ask, show) => {
  if (ask.tokenFile !== undefined) return await presentToken(ask, show)
  const fix = `Give the job one: id_tokens: CHAPERONE_ID_TOKEN: { aud: "${ask.line.audience}" }`
  return await show({ token: fromEnv(ask, ask.tokenEnv ?? 'CHAPERONE_ID_TOKEN', fix) })
}

/** The kubelet replaces the file before the token ends, so it is read anew each time. */
export const presentKubernetes: Present = async (ask, show) => show({ token: await fromFile(ask.tokenFile ?? KUBERNETES_FILE) })
