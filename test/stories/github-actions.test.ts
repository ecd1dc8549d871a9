import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, glob, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { type House, house } from '../parts/house.ts'
import { chaperone } from '../parts/process.ts'

const root = new URL('../../', import.meta.url)
const example = (name: string) => readFile(new URL(`examples/github-actions/${name}`, root), 'utf8')

interface GitHub {
  readonly issuer: string
  readonly ca: string
  readonly job: NodeJS.ProcessEnv
}

/** The issuer and the runner's endpoint, in a process of their own. */
async function github(t: TestContext, claims: object): Promise<GitHub> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('test/fakes/actions-process.ts', root)), JSON.stringify(claims)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.after(async () => {
    child.stdin.end()
    if (child.exitCode === null) await once(child, 'exit')
  })
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  return JSON.parse(line) as GitHub
}

interface Workflow {
  readonly jobs: {
    readonly report: {
      readonly permissions: unknown
      readonly env: Readonly<Record<string, string>>
      readonly steps: readonly { readonly run: string }[]
    }
  }
}

/** The documents of the example, with the issuer of the test in the place of GitHub's. */
async function applied(own: House, { issuer, ca }: GitHub): Promise<void> {
  const indented = ca.trim().replaceAll(/^/gm, '      ')
  const documents = (await example('chaperone.yaml')).replace(
    '  method: github\n',
    `  method: github\n  github:\n    issuer: ${issuer}\n    allow_private: true\n    ca: |\n${indented}\n`,
  )
  await own.apply(`kind: user\nname: boris\nspec: { roles: [] }\n---\n${documents}`)
}

/** Runs the steps as the runner does: one shell each, one after the other, in one environment. */
async function run(own: House, job: NodeJS.ProcessEnv): Promise<{ readonly code: number; readonly text: string }[]> {
  const { jobs } = parse(await example('workflow.yml')) as Workflow
  assert.deepEqual(jobs.report.permissions, { 'id-token': 'write' })
  const folder = join(own.dir, 'runner')
  await mkdir(folder)
  const tool = async (name: string, script: string) => {
    await writeFile(join(folder, name), `#!/bin/sh\n${script}\n`)
    await chmod(join(folder, name), 0o755)
  }
  // npm puts a command beside itself: it does that here for the one tarball, and for no name of a registry.
  const tarball = join(folder, 'chaperone-0.1.0.tgz')
  await tool('packed', `exec '${process.execPath}' '${fileURLToPath(new URL('bin/chaperone.js', root))}' "$@"`)
  await tool('npm', `[ "$*" = 'install --global --ignore-scripts ${tarball}' ] && mv '${join(folder, 'packed')}' '${join(folder, 'chaperone')}'`)
  const { out } = await chaperone(['get', 'join', 'ci', '--line'], { env: await signedIn(own) })
  const env = { ...job, PATH: `${folder}:${process.env.PATH}`, HOME: folder, NO_COLOR: '1', CHAPERONE_JOIN: out.trim(), CHAPERONE_PACKAGE: tarball }
  const results: { code: number; text: string }[] = []
  for (const { run } of jobs.report.steps) {
    const result = await new Promise<{ code: number; text: string }>((done) => {
      execFile('sh', ['-e', '-c', run], { env }, (error, stdout, stderr) => done({ code: error ? Number(error.code) : 0, text: stdout + stderr }))
    })
    results.push(result)
    if (result.code !== 0) break
  }
  return results
}

/** The administrator's own computer. */
async function signedIn({ dana, dir }: House): Promise<NodeJS.ProcessEnv> {
  const { openProfiles } = await import('../../src/client/profile.ts')
  const home = join(dir, 'dana')
  await openProfiles(home).save(dana.profile, { use: true })
  return { CHAPERONE_HOME: home }
}

test('a job of GitHub Actions joins with the five lines of the guide, and is the agent from then on', async (t) => {
  const own = await house(t)
  const at = await github(t, { sub: 'repo:octo/app:ref:refs/heads/main', repository: 'octo/app', ref: 'refs/heads/main' })
  await applied(own, at)
  const trusted = join(own.dir, 'github.pem')
  await writeFile(trusted, at.ca)
  const [installed, joined, who] = await run(own, { ...at.job, NODE_EXTRA_CA_CERTS: trusted })
  assert.equal(installed?.code, 0, installed?.text)
  assert.equal(joined?.code, 0, joined?.text)
  assert.match(joined!.text, /Signed in as report-bot/)
  assert.equal(who?.code, 0, who?.text)
  assert.match(who!.text, /report-bot/)
})

test('a job of another repository is told what it is, and ends with the exit code of a refusal', async (t) => {
  const own = await house(t)
  const at = await github(t, { sub: 'repo:octo/fork:ref:refs/heads/main', repository: 'octo/fork', ref: 'refs/heads/main' })
  await applied(own, at)
  const trusted = join(own.dir, 'github.pem')
  await writeFile(trusted, at.ca)
  const [, joined] = await run(own, { ...at.job, NODE_EXTRA_CA_CERTS: trusted })
  assert.equal(joined?.code, 4, joined?.text)
  assert.match(joined!.text, /`repository` is "octo\/fork"/)
  assert.doesNotMatch(joined!.text, /octo\/app/)
})

test('a job without the permission is told the line that gives it', async (t) => {
  const own = await house(t)
  await applied(own, await github(t, {}))
  const [, joined] = await run(own, {})
  assert.equal(joined?.code, 2, joined?.text)
  assert.match(joined!.text, /permissions: \{ id-token: write \}/)
})

test('no guide, example or help tells anybody to run whatever is registered under the name of the package', async () => {
  const said =
    /\b(?:npx|npm (?:exec|x|i|install|add)|pnpm (?:dlx|add)|yarn (?:dlx|add)|bunx)(?:\s+-{1,2}[\w=-]+)*\s+["']?chaperone(?:@[\w.^~-]+)?["'`]?(?=[\s:]|$)/
  for (const one of ['npx chaperone whoami', 'npm install -g chaperone', 'npx --yes chaperone@1.2.3 x', 'use `npx chaperone`'])
    assert.match(one, said)
  const found: string[] = []
  for (const place of ['*.md', 'docs/**/*.md', 'examples/**/*', 'deploy/**/*', 'src/**/*.ts', 'test/transcripts/*.txt'])
    for await (const path of glob(place, { cwd: fileURLToPath(root) })) {
      const text = await readFile(new URL(path, root), 'utf8').catch(() => '')
      found.push(...text.split('\n').flatMap((line) => (said.test(line) && !/\bnever\b/i.test(line) ? [`${path}: ${line.trim()}`] : [])))
    }
  assert.deepEqual(found, [])
})
