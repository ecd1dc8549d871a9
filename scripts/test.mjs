/**
 * npm test [-- file ... | --node=PATH | options of node --test]
 *
 * Every test file has a process of its own: measured, `--test-isolation=none` saves some seconds, but lets a hook or a
 * changed environment of one file reach the next. The compile cache gives most of that time back.
 */
import { spawn } from 'node:child_process'
import { globSync, mkdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { root } from './bootstrap.mjs'

const given = process.argv.slice(2)
const nodeBinary = given.find((arg) => arg.startsWith('--node='))?.slice('--node='.length) ?? process.execPath
const options = given.filter((arg) => arg.startsWith('-') && !arg.startsWith('--node='))
const named = given.filter((arg) => !arg.startsWith('-'))
const files = named.length > 0 ? named : globSync(['src/**/*.test.ts', 'test/**/*.test.ts', 'scripts/**/*.test.mjs'], { cwd: root }).sort()

const cache = join(root, 'node_modules', '.cache', 'compile')
mkdirSync(cache, { recursive: true })

const child = spawn(
  nodeBinary,
  [
    '--test',
    `--test-concurrency=${Math.max(2, availableParallelism())}`,
    // A test that hangs must fail and be named, not stop the whole run.
    '--test-timeout=120000',
    `--test-reporter=${join(root, 'scripts', 'reporter.mjs')}`,
    '--test-reporter-destination=stdout',
    ...options,
    ...files,
  ],
  { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, NODE_COMPILE_CACHE: cache } },
)
child.on('exit', (code) => {
  process.exitCode = code ?? 1
})
