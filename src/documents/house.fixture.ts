import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { chaperoneResource, chaperoneVocabulary, PRESETS, type Verb } from '../access/administration.ts'
import type { Draft } from '../audit/record.ts'
import { manualClock } from '../clock.ts'
import { mcpVocabulary } from '../gateways/mcp/rules.ts'
import { createIdentity } from '../identity/directory.ts'
import { openStore } from '../store/open.ts'
import type { DocumentsParts } from './apply.ts'
import { digestOf } from './diff.ts'
import { documentKinds } from './kinds.ts'
import { readDocuments } from './read.ts'
import type { Applier, ParsedDocument } from './types.ts'

/** For tests of this room: a real store in a temporary folder, with the presets and the first administrator, dana. */
export async function openHouse(t: TestContext, start = Date.UTC(2026, 10, 22, 12)) {
  const dataDir = await mkdtemp(join(tmpdir(), 'documents-'))
  const clock = manualClock(start)
  const store = await openStore({ dataDir }, { clock })
  t.after(async () => {
    await store.close()
    await rm(dataDir, { recursive: true })
  })
  const vocabularies = [chaperoneVocabulary, mcpVocabulary]
  const records: Draft[] = []
  const confirmed: number[] = []
  const house = { failRecords: undefined as Error | undefined, beforeCommit: undefined as (() => Promise<void>) | undefined }
  const parts: DocumentsParts = {
    store,
    clock,
    vocabularies,
    chaperone: chaperoneResource('test.internal'),
    kinds: documentKinds(vocabularies),
    audit: {
      async append(draft) {
        if (house.failRecords) throw house.failRecords
        records.push(draft)
        await house.beforeCommit?.()
        return { id: draft.id ?? `rec_${records.length}`, seq: records.length }
      },
    },
    lease: {
      noticed: () => {},
      async confirmed(epoch) {
        confirmed.push(epoch)
        return { ms: 0 }
      },
    },
  }
  const dana = await store.write(async (trx) => {
    for (const { name, spec } of PRESETS) {
      const document = { kind: 'role', name, labels: {}, spec: spec as unknown as Record<string, unknown> }
      await trx
        .insertInto('documents')
        .values({
          id: `res_${name}`,
          kind: 'role',
          name,
          labels: '{}',
          spec: JSON.stringify(spec),
          digest: digestOf(document),
          owner: null,
          applied_by: null,
          updated_at: start,
        })
        .execute()
    }
    return createIdentity(trx, { kind: 'user', name: 'dana', roles: ['admin'], source: 'bootstrap', now: start })
  })
  const by = (...verbs: Verb[]): Applier => ({ actor: { id: dana.id, name: 'dana' }, holds: (verb) => verbs.length === 0 || verbs.includes(verb) })
  const parse = (text: string, path = 'infra/a.yaml'): readonly ParsedDocument[] => {
    const { documents, problems } = readDocuments([{ path, text }], parts.kinds)
    if (problems.length > 0) throw new Error(JSON.stringify(problems))
    return documents
  }
  return Object.assign(house, { parts, store, clock, records, confirmed, dana, by, parse })
}
