import { readFile } from 'node:fs/promises'
import { lacking, type Present } from './obtain.ts'
import { privateKey, sign, statementOf } from './signing.ts'

/** A certificate that this machine has already, and its key: read anew each time, since short-lived ones are replaced. */
export const presentX509: Present = async (ask, show) => {
  if (ask.certFile === undefined || ask.keyFile === undefined)
    throw lacking('Where are the certificate and its key?', 'Say --cert-file FILE and --key-file FILE, both in PEM.')
  const [chain, key] = await Promise.all([ask.certFile, ask.keyFile].map(read))
  return await show({ chain: chain!, signed: await sign(await statementOf(ask), privateKey(key!)) })
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw lacking(`${path} cannot be read (${(error as NodeJS.ErrnoException).code}).`, 'Name files in PEM that this user may read.')
  }
}
