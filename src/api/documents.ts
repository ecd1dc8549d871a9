import { z } from 'zod'
import { applyDocuments, deleteDocument } from '../documents/apply.ts'
import { getDocument, listDocuments } from '../documents/list.ts'
import { InvalidDocuments } from '../documents/plan.ts'
import { readDocuments } from '../documents/read.ts'
import { applierOf } from './caller.ts'
import type { Apply } from './contract.ts'
import type { ApiParts } from './parts.ts'
import { type Route, signedIn } from './route.ts'

const LARGEST_APPLY = 4 * 1024 * 1024
const apply = { by: 'verbs', anyOf: ['apply'] } as const

/** What people wrote in YAML. */
export function documentRoutes(parts: ApiParts): readonly Route[] {
  const { documents, store } = parts
  return [
    signedIn<Apply>({
      method: 'POST',
      path: '/v1/apply',
      who: apply,
      limit: LARGEST_APPLY,
      body: z.strictObject({
        files: z.array(z.strictObject({ path: z.string().min(1).max(4096), text: z.string() })).max(1000),
        owner: z.string().min(1).max(256).optional(),
        prune: z.boolean().optional(),
        dryRun: z.boolean().optional(),
      }),
      // To look at what would change is no change; `diff` in a pipeline or at a desk needs no code.
      factor: (body) => body.dryRun !== true,
      summary: ({ body }) =>
        `${body.dryRun ? 'diff' : 'apply'} ${body.files.length} file${body.files.length === 1 ? '' : 's'}${body.prune ? `, prune ${body.owner ?? ''}` : ''}`,
      async handle({ body: { files, ...options }, session }) {
        const read = readDocuments(files, documents.kinds)
        if (read.problems.some((problem) => problem.level === 'error')) throw new InvalidDocuments(read.problems)
        const applied = await applyDocuments(documents, applierOf(parts, session), read.documents, options)
        return { ...applied, warnings: [...read.problems, ...applied.warnings] }
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/documents',
      summary: () => 'list documents',
      who: apply,
      handle: async ({ query }) => ({ documents: await listDocuments(store.db, documents.kinds, query.get('kind') ?? undefined) }),
    }),
    signedIn({
      method: 'GET',
      path: '/v1/documents/:kind/:name',
      summary: ({ params }) => `show ${params.kind}/${params.name}`,
      who: apply,
      handle: ({ params }) => getDocument(store.db, documents.kinds, params.kind ?? '', params.name ?? ''),
    }),
    signedIn({
      method: 'DELETE',
      path: '/v1/documents/:kind/:name',
      who: apply,
      summary: ({ params }) => `delete ${params.kind}/${params.name}`,
      handle: ({ params, session }) => deleteDocument(documents, applierOf(parts, session), params.kind ?? '', params.name ?? ''),
    }),
  ]
}
