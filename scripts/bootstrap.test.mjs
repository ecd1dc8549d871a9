import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { atLeast, NODE_FLOOR, root } from './bootstrap.mjs'

test('versions are compared as numbers', () => {
  for (const [version, expected] of [
    ['v24.21.0', true],
    ['v24.21.1', true],
    ['v24.100.0', true],
    ['v26.0.0', true],
    ['v24.20.9', false],
    ['v20.20.2', false],
    ['v9.99.99', false],
  ])
    assert.equal(atLeast(version, '24.21.0'), expected, version)
})

test('the floor is the same in package.json, in the published bin and in the bootstrap', () => {
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  assert.equal(engines.node, `>=${NODE_FLOOR.replace(/\.0$/, '')}`)
  const [major, minor] = NODE_FLOOR.split('.')
  assert.match(
    readFileSync(join(root, 'bin', 'chaperone.js'), 'utf8'),
    new RegExp(`major < ${major} \\|\\| \\(major === ${major} && minor < ${minor}\\)`),
  )
})

test('arguments, exit code and the chosen Node reach the command', () => {
  const run = (...args) => spawnSync(process.execPath, [join(root, 'scripts', 'bootstrap.mjs'), ...args], { encoding: 'utf8' })
  const seen = run('-p', 'JSON.stringify([process.argv.slice(1), process.env.PATH.split(":")[0]])', '--', '--once', 'a b')
  assert.deepEqual(JSON.parse(seen.stdout), [['--once', 'a b'], join(process.execPath, '..')])
  assert.equal(run('-e', 'process.exit(7)').status, 7)
  assert.equal(run().status, 1)
})
