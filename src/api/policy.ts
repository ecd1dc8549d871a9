import { z } from 'zod'
import { InvalidDocuments } from '../documents/plan.ts'
import { readDocuments } from '../documents/read.ts'
import { ChaperoneError } from '../errors.ts'
import { actorOf, holds } from './caller.ts'
import type { ApiParts } from './parts.ts'
import type { PolicyDiff, Replay, Replayed, Suggested, WouldApply } from './policy-contract.ts'
import { policyDiff } from './policy-diff.ts'
import { replay } from './policy-replay.ts'
import { suggest } from './policy-suggest.ts'
import { type AskedInSession, type Route, signedIn } from './route.ts'
import { nameText } from './words.ts'

const LARGEST = 4 * 1024 * 1024
const filesSchema = z
  .array(z.strictObject({ path: z.string().min(1).max(4096), text: z.string() }))
  .min(1)
  .max(1000)
const time = z.number().int().nonnegative()
const read = { by: 'verbs', anyOf: ['audit.read'] } as const

const filesText = ({ files }: WouldApply) => (files.length === 1 ? '1 file' : `${files.length} files`)

/** Questions about policy that is not applied. Nothing is changed; what is read of the record is itself recorded. */
export function policyRoutes(parts: ApiParts): readonly Route[] {
  const { documents, audit } = parts
  // They read thousands of records, or decide thousands of times: one at a time, or the data plane would wait for them.
  let busy = false
  const alone = async <T>(work: () => Promise<T>): Promise<T> => {
    if (busy) throw new ChaperoneError('too_many', 'Another question about policy is being answered.', { fix: 'Wait for that to end.' })
    busy = true
    try {
      return await work()
    } finally {
      busy = false
    }
  }
  const parsed = (files: WouldApply['files']) => {
    const found = readDocuments(files, documents.kinds)
    if (found.problems.some((problem) => problem.level === 'error')) throw new InvalidDocuments(found.problems)
    return found.documents
  }
  const reading = ({ session, permit }: AskedInSession<unknown>, what: Readonly<Record<string, unknown>>) =>
    audit.append({ ...actorOf(session), type: 'audit.read', ...(permit ? { permit: permit.id } : {}), data: what })

  return [
    signedIn<WouldApply>({
      method: 'POST',
      path: '/v1/policy/diff',
      who: { by: 'verbs', anyOf: ['apply'] },
      limit: LARGEST,
      body: z.strictObject({ files: filesSchema }),
      factor: () => false,
      summary: ({ body }) => `policy diff of ${filesText(body)}`,
      handle: ({ body }): Promise<PolicyDiff> => alone(() => policyDiff(parts, parsed(body.files))),
    }),
    signedIn<Replay>({
      method: 'POST',
      path: '/v1/policy/replay',
      who: read,
      limit: LARGEST,
      body: z.strictObject({ files: filesSchema, since: time, until: time.optional() }) as z.ZodType<Replay>,
      factor: () => false,
      summary: ({ body }) => `policy replay of ${filesText(body)}`,
      async handle(asked): Promise<Replayed> {
        // Its answer tells what the roles of everybody say, which is for those who write them.
        if (!holds(parts, asked.session, 'apply')('apply'))
          throw new ChaperoneError('no_rule', 'To replay roles needs the verb `apply` beside `audit.read`.')
        const { files, since, until } = asked.body
        const documentsRead = parsed(files)
        await reading(asked, { op: 'replay', since, ...(until === undefined ? {} : { until }) })
        return await alone(() => replay(parts, documentsRead, { since, ...(until === undefined ? {} : { until }) }))
      },
    }),
    signedIn<{ readonly identity: string; readonly since: number }>({
      method: 'POST',
      path: '/v1/policy/suggest',
      who: read,
      body: z.strictObject({ identity: nameText, since: time }),
      factor: () => false,
      summary: ({ body }) => `suggest a role for ${body.identity}`,
      async handle(asked): Promise<Suggested> {
        const { identity, since } = asked.body
        await reading(asked, { op: 'suggest', identity, since })
        return await alone(() => suggest(parts, identity, since))
      },
    }),
  ]
}
