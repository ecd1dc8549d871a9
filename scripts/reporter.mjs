/**
 * A reporter for node:test that says only what somebody has to know: what failed and why, what was skipped and why, and
 * at the end one line `N passed, N failed, N skipped`, which .ci/run adds up.
 */
import { relative } from 'node:path'

const root = process.cwd()
const place = (data) => (data.file ? `${relative(root, data.file)}:${data.line ?? 1}` : '')

function reasonOf(error) {
  // node:test wraps what a test threw; the cause is what the reader wants, with its own stack.
  const cause = error?.cause ?? error
  if (cause instanceof Error || typeof cause?.stack === 'string') {
    // fast-check keeps what the property threw as the cause of its own report.
    const own = cause.cause?.stack
    return own === undefined ? cause.stack : `${cause.stack}\n${own}`
  }
  return typeof cause === 'string' ? cause : (error?.message ?? String(cause))
}

const indent = (text) =>
  String(text)
    .split('\n')
    .map((line) => `    ${line}`)
    .join('\n')

// biome-ignore lint/style/noDefaultExport: node:test takes the default export of a reporter
export default async function* report(source) {
  const began = performance.now()
  let passed = 0
  let failed = 0
  let skipped = 0
  const files = new Map()
  for await (const { type, data } of source) {
    if (type !== 'test:pass' && type !== 'test:fail') {
      if (type === 'test:diagnostic' && data.level === 'error') yield `${data.message}\n`
      if (type === 'test:stderr' && process.env.CHAPERONE_TEST_OUTPUT) yield data.message
      continue
    }
    // A suite passes or fails by its tests; counting it too would count twice. A file that cannot even be loaded has no tests: it counts.
    const isSuite = data.details?.type === 'suite'
    const isFile = data.nesting === 0 && data.file !== undefined && data.name === data.file
    if (data.skip !== undefined && data.skip !== false) {
      skipped++
      yield `skipped: ${data.name} (${place(data)})${typeof data.skip === 'string' && data.skip ? `: ${data.skip}` : ''}\n`
    } else if (type === 'test:pass') {
      if (!isSuite && !isFile) passed++
    } else {
      const becauseOfChildren = data.details?.error?.failureType === 'subtestsFailed'
      if (!becauseOfChildren) {
        failed++
        yield `\nFAILED: ${data.name}\n  ${place(data)}\n${indent(reasonOf(data.details?.error))}\n`
      }
    }
    if (data.file && data.nesting === 0) files.set(data.file, (files.get(data.file) ?? 0) + (data.details?.duration_ms ?? 0))
  }
  const slow = [...files].sort((a, b) => b[1] - a[1]).slice(0, 3)
  const named = slow.map(([file, ms]) => `${relative(root, file)} ${(ms / 1000).toFixed(1)} s`).join(', ')
  yield `\n${passed} passed, ${failed} failed, ${skipped} skipped in ${((performance.now() - began) / 1000).toFixed(1)} s (slowest: ${named})\n`
}
