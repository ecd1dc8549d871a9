import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { fakeOAuth } from '../fakes/oauth-server.ts'
import { EVERYTHING, openThrough } from '../mcp/through.ts'

const script = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'bin', 'chaperone.js')

/** Runs the command; `see` gets every piece that it writes to stderr. */
async function chaperone(home: string, args: readonly string[], see: (text: string) => void = () => {}) {
  const child = spawn(process.execPath, [script, ...args], { env: { ...process.env, CHAPERONE_HOME: home }, stdio: ['pipe', 'pipe', 'pipe'] })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
    see(stderr)
  })
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, stdout, stderr }
}

test('boris logs in at a server that wants OAuth, his client uses it without a token, and logs out', { timeout: 30_000 }, async (t) => {
  const fake = await fakeOAuth()
  t.after(() => fake.close())
  const house = await openThrough(`${EVERYTHING}---\nkind: mcp\nname: wiki\nspec: { url: "${fake.url}", auth: { oauth: { for: each } } }\n`)
  t.after(() => house.close())
  const { url } = await house.open('wiki')
  const connect = async () => {
    const client = new Client({ name: 'claude-code', version: '1' })
    await client.connect(new StreamableHTTPClientTransport(new URL(url)))
    return client
  }
  await assert.rejects(connect(), /chaperone mcp login wiki/)

  let visited: Promise<Response> | undefined
  const done = await chaperone(house.home, ['mcp', 'login', 'wiki', '--no-browser'], (text) => {
    const page = /within ten minutes: (http\S+)\n/.exec(text)?.[1]
    if (page === undefined || visited) return
    const redirect = new URL(page).searchParams.get('redirect_uri')
    visited = fetch(`${redirect}?${fake.approve(page)}`)
  })
  assert.equal(done.code, 0, done.stderr)
  assert.match(done.stdout, /^Logged in at http:\S+ for wiki, with read offline_access\.\n$/)
  assert.match(await (await visited!).text(), /go back to the command line/)

  const client = await connect()
  const { content } = await client.callTool({ name: 'look', arguments: {} })
  assert.deepEqual(content, [{ type: 'text', text: 'done' }])
  const { headers } = fake.of('/mcp').findLast(({ text }) => text.includes('tools/call'))!
  assert.equal(headers.authorization, `Bearer ${fake.tokens[0]!.access}`)
  await client.close()

  const out = await chaperone(house.home, ['mcp', 'logout', 'wiki'])
  assert.deepEqual([out.code, out.stdout], [0, 'Logged out of wiki.\n'], out.stderr)
  // A token that was read is believed for a second at most, on other nodes; here it is gone at once.
  await assert.rejects(connect(), /chaperone mcp login wiki/)
})
