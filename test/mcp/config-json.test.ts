import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { chaperone, folder } from '../parts/process.ts'

/** `chaperone mcp …` of somebody who is not signed in. */
async function somebody(t: TestContext) {
  const home = await folder(t)
  const mcp = (...args: string[]) => chaperone(['mcp', ...args], { cwd: home, env: { HOME: home, CHAPERONE_HOME: join(home, 'chaperone') } })
  const json = async (...args: string[]) => {
    const { code, out, err } = await mcp(...args, '--json')
    assert.equal(code, 0, err)
    return JSON.parse(out)
  }
  return { home, mcp, json }
}

test('with --json `mcp config` says which file has which entries now, and what it was before', async (t) => {
  const { home, mcp, json } = await somebody(t)
  const file = join(home, 'mcp.json')
  const own = { file, servers: ['chaperone'], notes: [] }
  assert.deepEqual(await json('config', 'cursor', '--one', '--file', file), { ...own, changed: true, backup: null })
  assert.deepEqual(await json('config', 'cursor', '--one', '--file', file), { ...own, changed: false, backup: null })
  const written = await readFile(file, 'utf8')
  const removed = await json('config', 'cursor', '--remove', '--one', '--file', file)
  assert.deepEqual({ ...removed, backup: null }, { ...own, changed: true, backup: null })
  assert.equal(await readFile(removed.backup, 'utf8'), written)
  assert.deepEqual(await json('config', 'cursor', '--remove', '--one', '--file', file), {
    file,
    changed: false,
    servers: [],
    backup: null,
    notes: [],
  })

  const { links } = await json('config', 'cursor', '--one', '--link')
  assert.deepEqual(
    links.map(({ name, link }: { name: string; link: string }) => [name, new URL(link).protocol]),
    [['chaperone', 'cursor:']],
  )
  assert.deepEqual(await json('config', 'chatgpt', '--remove'), { steps: [] })
  const both = await mcp('config', 'cursor', '--one', '--print', '--json')
  assert.deepEqual([both.code, both.out], [2, ''], 'what --print prints is the file of the client already')
})

test('with --json `mcp bundle` says where the bundle is and which server it knows', async (t) => {
  const { home, json } = await somebody(t)
  assert.deepEqual(await json('bundle', '--out', join(home, 'a.mcpb')), { file: join(home, 'a.mcpb'), server: null })
  assert.ok(existsSync(join(home, 'a.mcpb')))
})
