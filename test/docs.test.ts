import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import type { Applied, Invitation } from '../src/api/contract.ts'
import { wholeProgram } from '../src/cli/main.ts'
import { type Api, openApi } from '../src/client/api.ts'
import { ApiError } from '../src/client/api-error.ts'
import { beginEnrolment } from '../src/client/sign-in.ts'
import { type RunningServer, startServer } from '../src/server/start.ts'
import { fromBase32, stepAt, totpCode } from '../src/signin/totp.ts'

/** What the guides say is held to the code: their YAML applies, their commands and flags exist, their links lead somewhere. */
const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const pages = ['README.md', 'SECURITY.md', 'CONTRIBUTING.md', 'ARCHITECTURE.md', ...globSync('docs/*.md', { cwd: root }).sort()].map((path) => ({
  path,
  text: readFileSync(join(root, path), 'utf8'),
}))

/** What the examples stand on. */
const ASSUMED = `kind: role
name: developer
spec: { allow: [ { chaperone: any, verbs: [audit.read] } ] }
---
kind: role
name: reader
spec: { allow: [ { chaperone: any, verbs: [audit.read] } ] }
---
kind: mcp
name: files
spec: { command: [files-server], trusted: true }
---
kind: postgres
name: orders
labels: { env: prod }
spec: { address: "db.internal:5432", databases: [orders] }
---
kind: role
name: sre-lead
spec: {}
---
kind: role
name: prod-admin
spec: { allow: [{ postgres: orders, databases: any, as: any, can: any }] }
`

interface Block {
  /** of the line after the fence */
  readonly line: number
  readonly language: string
  readonly text: string
}

function blocksOf(page: string): readonly Block[] {
  const blocks: Block[] = []
  for (const { index, 1: language = '', 2: text = '' } of page.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm))
    blocks.push({ language, text, line: page.slice(0, index).split('\n').length + 1 })
  return blocks
}

describe('the YAML of the guides', () => {
  let dataDir: string
  let server: RunningServer
  let api: Api

  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'chaperone-docs-'))
    const any = '127.0.0.1:0'
    server = await startServer({ dataDir, listen: any, webListen: any, postgresListen: any, logLevel: 'silent' })
    const enrolment = await beginEnrolment(server.invitation!.line)
    const profile = await enrolment.finish(totpCode(fromBase32(enrolment.offer.totp.secret)!, stepAt(Date.now())))
    enrolment.close()
    api = openApi({ address: profile.address, authorities: profile.bundles.server, identity: profile })
    await apply('assumed', ASSUMED)
    for (const name of ['slack-sre', 'ticket-bot', 'smtp-password', 'company', 'company-scim', 'okta', 'entra', 'keycloak'])
      await api.call('PUT', `/v1/secrets/${name}`, { value: 'x' })
  })
  after(async () => {
    api?.close()
    await server?.stop()
    await rm(dataDir, { recursive: true, force: true, maxRetries: 10 })
    await rm(`${dataDir}.root-key`, { force: true })
  })

  async function apply(path: string, text: string): Promise<void> {
    const applied = await api.call<Applied>('POST', '/v1/apply', { files: [{ path, text }] }).catch((error: unknown) => {
      throw error instanceof ApiError ? new Error(`${error.message}\n${JSON.stringify(error.problems, null, 2)}`) : error
    })
    // Nobody has used the servers of the guides, so nothing is known of their tools; and what their secrets lie in is not here.
    assert.deepEqual(
      applied.warnings.filter(({ message }) => !/^(No tool is known yet|The secret cannot be taken from)/.test(message)),
      [],
    )
    assert.ok(applied.changes.length > 0)
  }

  async function comeIn(name: string): Promise<void> {
    const { invitation } = await api.call<Invitation>('POST', '/v1/invitations', { name })
    const enrolment = await beginEnrolment(invitation)
    await enrolment.finish(totpCode(fromBase32(enrolment.offer.totp.secret)!, stepAt(Date.now())))
    enrolment.close()
  }

  /** After this page nobody applies alone. */
  const last = ({ path }: { readonly path: string }) => path === 'docs/two-administrators.md'
  for (const { path, text } of [...pages.filter((page) => !last(page)), ...pages.filter(last)]) {
    const yaml = blocksOf(text).filter(({ language }) => language === 'yaml')
    if (yaml.length === 0) continue
    test(`${path} applies, without a warning`, async () => {
      // One after the other, as a reader does. Empty lines before it: then a fault names the line of the page.
      for (const block of yaml) {
        await apply(path, '\n'.repeat(block.line - 1) + block.text)
        if (last({ path }) && block === yaml[0]) await comeIn('erik')
      }
    })
  }
})

/** Each `chaperone ...` in a shell block or between backticks. */
function commandLines(page: string): readonly string[] {
  const inBlocks = blocksOf(page)
    .filter(({ language }) => language === 'sh')
    .flatMap(({ text }) => text.replaceAll('\\\n', ' ').split('\n'))
    .flatMap((line) => line.split(/&&|[|(] *(?=chaperone )/))
  const prose = page.replace(/^```[\s\S]*?^```$/gm, '')
  const inline = [...prose.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code.replaceAll('\n', ' '))
  return [...inBlocks, ...inline].map((line) => line.trim()).filter((line) => /^(eval "\$\()?chaperone( |$)/.test(line))
}

/** What is wrong with a command line, if anything. */
function faultOf(program: Command, line: string): string | undefined {
  const words = line
    .replace(/\s(#|>|\|).*$/, '')
    .replace(/'[^']*'|"[^"]*"/g, 'TEXT')
    .split(/\s+/)
    .slice(1)
  const known = new Set(['--help'])
  let here = [program]
  for (const word of words) {
    if (word === '--') return undefined
    const above = here[0]!
    if (word.startsWith('-')) {
      const flag = word.replace(/=.*/, '').replace(/[.,:;)]+$/, '')
      for (const command of here) for (const option of command.options) for (const form of [option.long, option.short]) if (form) known.add(form)
      if (!known.has(flag)) return `there is no ${flag}`
    } else if (above.commands.length > 0) {
      // `audit tail|search` names two; a flag of the group may stand before the command (`explain --as NAME mcp`).
      const named = word.split('|').map((name) => above.commands.find((command) => command.name() === name))
      if (named.every((command) => command !== undefined)) {
        for (const option of above.options) if (option.long) known.add(option.long)
        here = named
      } else if (above.options.length === 0) return `there is no command ${word}`
    }
  }
  return undefined
}

test('the commands and flags that the guides name exist', async () => {
  const program = await wholeProgram()
  const wrong = pages.flatMap(({ path, text }) =>
    commandLines(text).flatMap((line) => {
      const fault = faultOf(program, line)
      return fault === undefined ? [] : [`${path}: \`${line}\`: ${fault}`]
    }),
  )
  assert.deepEqual(wrong, [])
  assert.ok(pages.flatMap(({ text }) => commandLines(text)).length > 20)
  // It can fail.
  assert.equal(faultOf(program, 'chaperone audit search --colour red'), 'there is no --colour')
})

test('the links of the guides lead to pages that are there', () => {
  const broken = pages.flatMap(({ path, text }) =>
    [...text.matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)]
      .map(([, target = '']) => target)
      .filter((target) => !existsSync(join(root, dirname(path), target)))
      .map((target) => `${path}: ${target}`),
  )
  assert.deepEqual(broken, [])
})

test('whoever reads the README finds every guide', () => {
  const linked = new Set([...pages[0]!.text.matchAll(/\]\((docs\/[^)#]+)/g)].map(([, path]) => path))
  assert.deepEqual(
    pages.map(({ path }) => path).filter((path) => path.startsWith('docs/') && !linked.has(path)),
    [],
  )
})
