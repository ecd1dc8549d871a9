/**
 * npm test [-- file ... | --node=PATH | options of node --test]
 *
 * Every test file has a process of its own: measured, `--test-isolation=none` saves some seconds, but lets a hook or a
 * changed environment of one file reach the next. The compile cache gives most of that time back.
 */
import { spawn } from 'node:child_process'
import { chmodSync, copyFileSync, globSync, linkSync, mkdirSync, mkdtempSync, realpathSync, rmSync, statSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { root } from './bootstrap.mjs'

const given = process.argv.slice(2)
const nodeBinary = given.find((arg) => arg.startsWith('--node='))?.slice('--node='.length) ?? process.execPath
const options = given.filter((arg) => arg.startsWith('-') && !arg.startsWith('--node='))
const named = given.filter((arg) => !arg.startsWith('-'))
const files = named.length > 0 ? named : globSync(['src/**/*.test.ts', 'test/**/*.test.ts', 'scripts/**/*.test.mjs'], { cwd: root }).sort()

const cache = join(root, 'node_modules', '.cache', 'compile')
mkdirSync(cache, { recursive: true })

/** Whether somebody who is neither owner nor in the group may pass every folder on the way. */
const openToOthers = (path) => (statSync(path).mode & 0o001) === 0o001 && (path === dirname(path) || openToOthers(dirname(path)))

/**
 * As root, isolated children run as another user, who cannot run a Node that lies in somebody's private home (/root,
 * `mktemp -d`: 0700). Then the tests run on a copy of it that everybody can.
 */
function openNode(folder) {
  const copy = join(folder, 'node')
  try {
    linkSync(nodeBinary, copy)
  } catch {
    copyFileSync(nodeBinary, copy) // another file system
  }
  return copy
}

const isRoot = process.getuid?.() === 0
const temporary = isRoot && !openToOthers(realpathSync(tmpdir())) ? '/tmp' : tmpdir()
// What tests leave behind goes with this folder.
const place = mkdtempSync(join(temporary, 'chaperone-tests-'))
chmodSync(place, 0o755)
process.on('exit', () => rmSync(place, { recursive: true, force: true, maxRetries: 5 }))

// On stderr, before the first word of the reporter: that may be minutes away, and whoever tries this for the first time should not wonder.
process.stderr.write(`Test files to run: ${files.length}. Only what fails or is skipped is named; the last line is the count.\n`)

const child = spawn(
  isRoot && !openToOthers(realpathSync(nodeBinary)) ? openNode(place) : nodeBinary,
  [
    '--test',
    `--test-concurrency=${Math.max(2, availableParallelism())}`,
    // Only against hanging: a machine that has much else to do takes many times as long as a quiet one.
    '--test-timeout=180000',
    `--import=${pathToFileURL(join(root, 'scripts', 'same-examples.mjs')).href}`,
    // A test that hangs must fail and be named; its process is ended by .ci/run's own limit. Not --test-force-exit: it ends a file's
    // process before its results are written (measured: up to 54 of 246 tests vanished from the count).
    `--test-reporter=${join(root, 'scripts', 'reporter.mjs')}`,
    '--test-reporter-destination=stdout',
    ...options,
    ...files,
  ],
  { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, TMPDIR: place, NODE_COMPILE_CACHE: cache } },
)
// So that what is above is cleaned up too.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
child.on('exit', (code) => {
  process.exitCode = code ?? 1
})
