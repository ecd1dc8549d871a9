import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

const titles = ['src', 'test']
  .flatMap((folder) => readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((file) => join(root, folder, file)))
  .filter((file) => /(\.test|suite)\.ts$/.test(file))
  .flatMap((file) => [...readFileSync(file, 'utf8').matchAll(/['"`]rule (\d+):/g)].map((match) => Number(match[1])))

test('each of the twelve rules that never bend is found in the tests by its number', () => {
  const missing = Array.from({ length: 12 }, (_, i) => i + 1).filter((rule) => !titles.includes(rule))
  assert.deepEqual(missing, [])
})
