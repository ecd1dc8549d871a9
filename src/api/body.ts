import type { z } from 'zod'
import { parseStrict } from '../encoding/strict-json.ts'
import { ChaperoneError } from '../errors.ts'

const DEFAULT_LIMIT = 1024 * 1024

/** The checked body and its bytes. Throws `malformed`, `ambiguous`, `too_large`, `usage`. */
export async function readBody<T>(
  request: Request,
  schema: z.ZodType<T> | undefined,
  limit = DEFAULT_LIMIT,
): Promise<{ readonly value: T; readonly text: string }> {
  const bytes = await readBytes(request, limit)
  if (!schema) {
    // A body that nobody reads is a misunderstanding, or an attempt at one.
    if (bytes.length > 0 && bytes.toString() !== '{}') throw new ChaperoneError('usage', 'This request takes no body.')
    return { value: undefined as T, text: '' }
  }
  const type = request.headers.get('content-type')?.split(';', 1)[0]?.trim().toLowerCase()
  if (type !== 'application/json') throw new ChaperoneError('malformed', 'The body must be JSON.', { fix: 'Send Content-Type: application/json.' })
  const { value } = parseStrict(bytes, { maxBytes: limit })
  const parsed = schema.safeParse(value)
  if (parsed.success) return { value: parsed.data, text: bytes.toString() }
  const [issue] = parsed.error.issues
  const where = issue && issue.path.length > 0 ? `\`${issue.path.join('.')}\`: ` : ''
  throw new ChaperoneError('usage', `The request is not as expected: ${where}${faultOf(issue)}.`)
}

function faultOf(issue: z.core.$ZodIssue | undefined): string {
  if (issue?.code === 'too_small' && issue.origin === 'string' && issue.minimum === 1) return 'it must not be empty'
  if (issue?.code === 'too_big' && issue.origin === 'string') return `it has more than ${issue.maximum} characters`
  return issue?.message ?? 'invalid'
}

async function readBytes(request: Request, limit: number): Promise<Buffer> {
  if (request.headers.get('content-encoding') !== null) throw new ChaperoneError('unsupported', 'Compressed bodies are not read.')
  const tooLarge = () => new ChaperoneError('too_large', `The body is larger than ${limit} bytes.`)
  if (Number(request.headers.get('content-length') ?? 0) > limit) throw tooLarge()
  const chunks: Uint8Array[] = []
  let size = 0
  if (request.body) {
    for await (const chunk of request.body) {
      size += chunk.byteLength
      if (size > limit) throw tooLarge()
      chunks.push(chunk)
    }
  }
  return Buffer.concat(chunks)
}
