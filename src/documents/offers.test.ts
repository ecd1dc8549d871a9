import assert from 'node:assert/strict'
import { test } from 'node:test'
import { applyDocuments } from './apply.ts'
import { openHouse } from './house.fixture.ts'
import { noticesFor } from './offers.ts'
import { InvalidDocuments } from './plan.ts'

const SERVER = 'kind: mcp\nname: files\nspec: { command: [files-server] }\n'
const role = (args: string) => `kind: role\nname: reader\nspec:\n  allow:\n    - mcp: files\n      tools: ["read_*"]\n      args:\n        ${args}\n`

test('conditions of a role are held against what a server offers, when it is applied and again when something is seen', async (t) => {
  const { parts, by, parse, store, clock } = await openHouse(t)
  const apply = (text: string) => applyDocuments(parts, by(), parse(text))
  const see = async (name: string, properties: object) => {
    const { id } = await store.db.selectFrom('documents').select('id').where('kind', '=', 'mcp').where('name', '=', 'files').executeTakeFirstOrThrow()
    const approved = JSON.stringify({ name, inputSchema: { type: 'object', properties, additionalProperties: false } })
    await store.write(async (trx) => {
      await trx.deleteFrom('pins').where('resource_id', '=', id).execute()
      await trx
        .insertInto('pins')
        .values({
          resource_id: id,
          kind: 'tool',
          name,
          approved,
          approved_sha256: 'x',
          approved_by: null,
          approved_at: null,
          pending: null,
          pending_sha256: null,
          pending_at: null,
          first_seen_at: clock.now(),
        })
        .execute()
    })
    return id
  }

  const first = await apply(`${SERVER}---\n${role('path: { under: /srv }')}`)
  assert.deepEqual(
    first.warnings.map(({ line, column, message }) => `${line}:${column} ${message}`),
    ['9:7 No tool is known yet that the conditions of this rule can be checked against: nothing was seen of files.'],
  )

  const id = await see('read_file', { path: { type: 'string' } })
  assert.deepEqual((await apply(role('path: { under: /srv }'))).warnings, [])
  assert.deepEqual(await noticesFor(store.db, parts.vocabularies, id), [])

  const wrong = await apply(role('pth: { under: /srv }')).catch((error: unknown) => error)
  assert.ok(wrong instanceof InvalidDocuments)
  assert.deepEqual(
    wrong.problems.map(({ line, column, message, fix }) => `${line}:${column} ${message} ${fix}`),
    ['8:9 `read_file` of files has no argument `pth`. Did you mean `path`?'],
  )

  // The server offers something else now: whoever looks at it is told, and the same roles can still be applied.
  await see('read_file', { file: { type: 'string' } })
  assert.deepEqual(await noticesFor(store.db, parts.vocabularies, id), [
    {
      document: 'role/reader',
      at: 'allow[0].args.path',
      level: 'error',
      message: '`read_file` of files has no argument `path`.',
      fix: 'Known here: file.',
    },
  ])
  assert.deepEqual(await noticesFor(store.db, parts.vocabularies, 'res_other'), [])
  const again = await apply(role('path: { under: /srv }'))
  assert.deepEqual(
    again.warnings.map(({ level, message }) => `${level}: ${message}`),
    ['warning: `read_file` of files has no argument `path`.'],
  )
})
