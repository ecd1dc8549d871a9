import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openProfiles } from '../../src/client/profile.ts'
import { type FakeIssuer, fakeIssuer } from '../fakes/issuer.ts'
import { type House, house } from '../parts/house.ts'

const root = new URL('../../', import.meta.url)
const page = await readFile(new URL('docs/joining.md', root), 'utf8')

/** The block of the page that has this in it, as it stands there. */
function block(language: 'yaml' | 'sh', has: string): string {
  const [text] = [...page.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].flatMap(([, kind, text = '']) =>
    kind === language && text.includes(has) ? [text] : [],
  )
  assert.ok(text, `docs/joining.md has no block with ${has}`)
  return text
}

/** Puts what is there in a test in the place of what the page names; the page must name it. */
const put = (text: string, what: string | RegExp, by: string): string => {
  assert.ok(typeof what === 'string' ? text.includes(what) : what.test(text), `${what} is not in ${text}`)
  return text.replace(what, () => by)
}

describe('docs/joining.md, any issuer: its very YAML and lines, at an issuer that answers', () => {
  const undo: (() => Promise<void>)[] = []
  let own: House
  let issuer: FakeIssuer
  let bin: string

  before(async () => {
    own = await house({ after: (work) => void undo.push(work) })
    issuer = await fakeIssuer()
    undo.push(() => issuer.close())
    await own.apply(block('yaml', 'kind: agent\nname: report-bot'))
    await openProfiles(join(own.dir, 'dana')).save(own.dana.profile, { use: true })
    bin = join(own.dir, 'bin')
    await mkdir(bin)
    await writeFile(join(bin, 'chaperone'), `#!/bin/sh\nexec '${process.execPath}' '${fileURLToPath(new URL('bin/chaperone.js', root))}' "$@"\n`)
    await chmod(join(bin, 'chaperone'), 0o755)
  })
  after(async () => {
    for (const step of undo.reverse()) await step()
  })

  const typed = (line: string, home: string) =>
    new Promise<{ readonly code: number; readonly text: string }>((done) => {
      const env = { PATH: `${bin}:${process.env.PATH}`, HOME: own.dir, NO_COLOR: '1', CHAPERONE_HOME: join(own.dir, home) }
      execFile('sh', ['-e', '-c', line], { env }, (error, stdout, stderr) => done({ code: error ? Number(error.code) : 0, text: stdout + stderr }))
    })

  /** As the page says it in step 2 and in the section: the administrator asks for the line, the machine joins with it. */
  async function follow(name: string, claims: Record<string, unknown>, home: string) {
    const asked = await typed(put(/`(chaperone get join \S+ --line)`/.exec(page)?.[1] ?? '', 'join ci', `join ${name}`), 'dana')
    assert.equal(asked.code, 0, asked.text)
    const token = join(own.dir, `${home}.token`)
    await writeFile(token, await issuer.token(claims))
    const line = put(put(block('sh', '--method oidc'), '/run/token', token), '"chaperone://…"', `"${asked.text.trim()}"`)
    return typed(`${put(line, '--as own-issuer', `--as ${name}`)}\nchaperone whoami`, home)
  }

  test('keys by discovery, inside the network, with an authority of its own', async () => {
    const ca = issuer.ca.trim().replaceAll(/^/gm, '      ')
    // The guide: an issuer inside your network needs `allow_private: true`, one with a certificate of your own authority `ca`.
    assert.match(page, /An issuer inside your network needs `allow_private: true`, one with a\ncertificate of your own authority `ca`/)
    const yaml = put(
      block('yaml', 'name: own-issuer'),
      '{ issuer: https://issuer.example.com }',
      `\n    issuer: ${issuer.issuer}\n    allow_private: true\n    ca: |\n${ca}`,
    )
    await own.apply(yaml)
    const joined = await follow('own-issuer', { sub: 'workload-7' }, 'machine')
    assert.equal(joined.code, 0, joined.text)
    assert.match(joined.text, /report-bot/)
    const other = await follow('own-issuer', { sub: 'workload-8' }, 'other')
    assert.equal(other.code, 4)
    assert.match(other.text, /`sub` is "workload-8".*\[join_refused\]/)
    assert.doesNotMatch(other.text, /workload-7/)
  })

  test('keys pinned: nobody is asked', async () => {
    const asked = issuer.asked.length
    const yaml = put(block('yaml', 'name: pinned'), 'https://issuer.internal', issuer.issuer)
    await own.apply(put(yaml, /\{ keys: \[.*\] \}/, JSON.stringify({ keys: issuer.published() })))
    const joined = await follow('pinned', { sub: 'workload-7', groups: ['finance-emea', 'other'] }, 'pinned')
    assert.equal(joined.code, 0, joined.text)
    assert.match(joined.text, /report-bot/)
    assert.equal((await follow('pinned', { sub: 'workload-7', groups: ['sales'] }, 'sales')).code, 4)
    assert.equal(issuer.asked.length, asked)
  })
})
