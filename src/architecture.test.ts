import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const source = dirname(fileURLToPath(import.meta.url))
const page = readFileSync(join(source, '..', 'ARCHITECTURE.md'), 'utf8')

/** The rooms in the order of the page: `src/errors.ts` ... share the first place. */
const rows = page.split('\n').filter((line) => line.startsWith('| `src/'))
const order = rows.map((line) => [...(line.split('|')[1] ?? '').matchAll(/`src\/([^`]+)`/g)].map((match) => match[1]!.replace(/\/$/, '')))

const files = readdirSync(source, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.split(sep).join('/'))
/** Suites that every store must pass, and fixtures, are tests too; the build leaves them out. */
const product = files.filter((file) => !/(\.test|\/suite|-suite|\.fixture|\/fixtures)\.ts$/.test(file))

interface Import {
  readonly from: string
  readonly to: string
  readonly typeOnly: boolean
  /** `import()`: loaded when it is needed, so it closes no cycle while modules are read */
  readonly lazy: boolean
}

const importPattern =
  /(?:^|\n)\s*(?:import|export)\s+(type\s+)?(?:[^'"\n;]|\n(?!\s*(?:import|export)\b))*?from\s+'(\.[^']+)'|import\(\s*'(\.[^']+)'\s*\)|new URL\(\s*'(\.[^']+\.ts)'/g

function importsOf(file: string): Import[] {
  const text = readFileSync(join(source, file), 'utf8')
  return [...text.matchAll(importPattern)].map((match) => ({
    from: file,
    to: relative(source, resolve(source, dirname(file), match[2] ?? match[3] ?? match[4]!))
      .split(sep)
      .join('/'),
    typeOnly: match[1] !== undefined,
    lazy: match[2] === undefined,
  }))
}

const roomOf = (file: string) => (file.includes('/') ? file.slice(0, file.indexOf('/')) : file)
const place = (file: string) => order.findIndex((names) => names.includes(roomOf(file)))

test('ARCHITECTURE.md lists every room that exists, and no other', () => {
  assert.ok(order.length > 10, 'the ordered list was not found in ARCHITECTURE.md')
  for (const file of product) assert.notEqual(place(file), -1, `${file} is in no room of ARCHITECTURE.md`)
  for (const name of order.flat()) assert.ok(existsSync(join(source, name)), `ARCHITECTURE.md names src/${name}, which does not exist`)
})

test('every file that ARCHITECTURE.md names exists', () => {
  const named = [...page.matchAll(/[\w./-]*\w\.ts\b/g)].map(([name]) => name.replace(/^src\//, ''))
  assert.ok(named.length > 50, 'no names of files were found in ARCHITECTURE.md')
  assert.deepEqual(
    named.filter((name) => !files.some((file) => file === name || file.endsWith(`/${name}`))),
    [],
  )
})

test('a room imports only from itself and from rooms above it', () => {
  const wrong = product.flatMap(importsOf).filter((edge) => !edge.to.startsWith('..') && place(edge.to) > place(edge.from))
  assert.deepEqual(
    wrong.map((edge) => `${edge.from} -> ${edge.to}`),
    [],
  )
})

test('every relative import leads to a file inside src', () => {
  // The version is the one thing that lives outside: package.json.
  const wrong = product
    .flatMap(importsOf)
    .filter((edge) => (edge.to.startsWith('..') ? edge.to !== '../package.json' : !existsSync(join(source, edge.to))))
  assert.deepEqual(
    wrong.map((edge) => `${edge.from} -> ${edge.to}`),
    [],
  )
})

test('a gateway never imports another gateway', () => {
  const gateway = (file: string) => /^gateways\/([^/]+)\//.exec(file)?.[1]
  const wrong = product.flatMap(importsOf).filter((edge) => gateway(edge.from) && gateway(edge.to) && gateway(edge.from) !== gateway(edge.to))
  assert.deepEqual(wrong, [])
})

test('there are no import cycles at run time', () => {
  const edges = new Map(
    product.map((file) => [
      file,
      importsOf(file)
        .filter((edge) => !edge.typeOnly && !edge.lazy)
        .map((edge) => edge.to),
    ]),
  )
  const done = new Set<string>()
  const walk = (file: string, path: readonly string[]): void => {
    assert.ok(!path.includes(file), `cycle: ${[...path, file].join(' -> ')}`)
    if (done.has(file)) return
    for (const next of edges.get(file) ?? []) walk(next, [...path, file])
    done.add(file)
  }
  for (const file of product) walk(file, [])
})

const reaches = (file: string, pattern: RegExp) => pattern.test(readFileSync(join(source, file), 'utf8'))

test('policy, and every describe, wire, rules and refuse, does no I/O', () => {
  const pure = product.filter((file) => /^(policy|encoding)\//.test(file) || /^gateways\/[^/]+\/(wire|describe|rules|refuse)[^/]*\.ts$/.test(file))
  assert.ok(pure.length > 10)
  const io = /from 'node:(?!crypto'|buffer'|util')[^']+'/
  assert.deepEqual(
    pure.filter((file) => reaches(file, io)),
    [],
  )
})

test('rule 9: only gateway, upstream and child files of a gateway open what leads upstream', () => {
  const opens = /from 'node:(net|tls|http|https|http2|child_process|dgram)'|\bfetch\(/
  const typesOnly = /import type [^;\n]+ from 'node:(net|tls|http|https|http2|child_process)'/g
  const wrong = product
    .filter((file) => file.startsWith('gateways/') && !/\/(gateway|entrance|upstream|child|isolation)[^/]*\.ts$/.test(file))
    .filter((file) => opens.test(readFileSync(join(source, file), 'utf8').replace(typesOnly, '')))
  assert.deepEqual(wrong, [])
})

test('rule 9: a permit is made in one place', () => {
  const wrong = product.filter((file) => file !== 'access/guard.ts' && reaches(file, /\bas (unknown as )?Permit\b/))
  assert.deepEqual(wrong, [])
})

test('only the clock reads the time, and only ids use it for their order', () => {
  const wrong = product.filter(
    (file) => !['clock.ts', 'ids.ts'].includes(file) && !/^(demo|cli)\//.test(file) && reaches(file, /\bDate\.now\(\)|new Date\(\)/),
  )
  assert.deepEqual(wrong, [])
})

test('nobody has a default export, a barrel, or a room without a name of its own', () => {
  assert.deepEqual(
    product.filter((file) => reaches(file, /^export default\b/m) || reaches(file, /^export \* from/m)),
    [],
  )
  assert.deepEqual(
    files.filter((file) => /(^|\/)(utils?|helpers?|common|misc|core|lib)(\/|\.ts$)/.test(file)),
    [],
  )
})

test('a file has rarely over 400 lines', () => {
  const long = product.filter((file) => readFileSync(join(source, file), 'utf8').split('\n').length > 450)
  assert.deepEqual(long, [])
})
