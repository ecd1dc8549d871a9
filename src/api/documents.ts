import { z } from 'zod'
import { applyDocuments, deleteDocument, exactChange, removal } from '../documents/apply.ts'
import { getDocument, listDocuments } from '../documents/list.ts'
import { InvalidDocuments, type Wish } from '../documents/plan.ts'
import { readDocuments } from '../documents/read.ts'
import type { ParsedDocument, Problem } from '../documents/types.ts'
import type { LiveSession } from '../identity/types.ts'
import type { Exactly } from './asking.ts'
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
      async exactly({ body: { files, dryRun: _, ...options }, session }) {
        return exactly(session, { documents: readAll(files).documents, ...options })
      },
      async handle({ body: { files, ...options }, session, exactly: approved }) {
        const read = readAll(files)
        const applied = await applyDocuments(documents, applierOf(parts, session), read.documents, { ...options, ...sameAs(approved) })
        const unread = options.dryRun ? [] : await unreadSecrets(parts, read.documents)
        return { ...applied, warnings: [...read.problems, ...applied.warnings, ...unread] }
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
      exactly: ({ params, session }) => exactly(session, removal(params.kind ?? '', params.name ?? '')),
      handle: ({ params, session, exactly: approved }) =>
        deleteDocument(documents, applierOf(parts, session), params.kind ?? '', params.name ?? '', sameAs(approved).approved),
    }),
  ]

  function readAll(files: readonly { readonly path: string; readonly text: string }[]) {
    const read = readDocuments(files, documents.kinds)
    if (read.problems.some((problem) => problem.level === 'error')) throw new InvalidDocuments(read.problems)
    return read
  }

  /** The change itself is asked about, and not the files that it is written in: each document with its difference. */
  async function exactly(session: LiveSession, wish: Wish): Promise<Exactly> {
    const { digest, changes, meaning } = await exactChange(documents, applierOf(parts, session), wish)
    const shown = [...changes.map(({ op, kind, name, diff = '' }) => ({ title: `${op} ${kind}/${name}`, text: diff })), ...meaning]
    return { bound: digest, shown, ...(changes.length === 0 ? { nothing: true } : {}) }
  }
}

const sameAs = (approved: Exactly | undefined) => (approved ? { approved: approved.bound as string } : {})

/** What was just written of secrets that are kept elsewhere and cannot be had: else the first call that needs one would tell. */
async function unreadSecrets({ references }: ApiParts, documents: readonly ParsedDocument[]): Promise<readonly Problem[]> {
  const looked = documents
    .filter(({ kind }) => kind === 'secret')
    .map(async (document): Promise<readonly Problem[]> => {
      const trouble = await references.trouble(document.name)
      if (!trouble) return []
      const { message, fix } = trouble
      return [{ ...document.place(['spec', 'from']), level: 'warning', message, ...(fix === undefined ? {} : { fix }) }]
    })
  return (await Promise.all(looked)).flat()
}
