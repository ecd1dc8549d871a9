import { readFileSync } from 'node:fs'
import type { Register } from './commands.ts'
import { withJson } from './connection.ts'
import { line, printJson } from './output.ts'

/** The one place that says it: package.json lies beside src/ and beside dist/. */
export const version = (): string => JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version as string

export const register: Register = (command) => {
  withJson(command).action((flags: { json?: boolean }) => {
    const about = { chaperone: version(), node: process.versions.node, platform: `${process.platform}-${process.arch}` }
    if (flags.json) return printJson(about)
    line(`chaperone ${about.chaperone} (Node ${about.node}, ${about.platform})`)
  })
}
