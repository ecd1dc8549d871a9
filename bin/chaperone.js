#!/usr/bin/env node
// Parsed by any Node since 18, so that an old one is told what to do instead of failing on syntax it does not know.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 24 || (major === 24 && minor < 21)) {
  console.error(
    `chaperone: Node ${process.versions.node} is too old: install Node >= 24.21 (for example: npm install -g node@24.21.0), then run this again.`,
  )
  process.exitCode = 8
} else {
  const built = new URL('../dist/cli/main.js', import.meta.url)
  const source = new URL('../src/cli/main.ts', import.meta.url)
  // A checkout has the source and runs it, so that a forgotten build is never what is run; a published package has only dist.
  const { main } = await import((existsSync(fileURLToPath(source)) ? source : built).href)
  await main(process.argv.slice(2))
}
