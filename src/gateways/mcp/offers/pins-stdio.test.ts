import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { answerOf, type Harness, harness, type Json, openSession } from '../harness.fixture.ts'

/** Reads what it offers once, when it starts: as a program does that was updated. */
const PROGRAM = `
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
const tools = JSON.parse(readFileSync(process.argv[2]))
const modern = process.argv[3] === 'modern'
const say = (message) => console.log(JSON.stringify({ jsonrpc: '2.0', ...message }))
const info = { serverInfo: { name: 'f', version: '1' }, capabilities: { tools: {} } }
const whole = modern ? { resultType: 'complete', ttlMs: 0, cacheScope: 'private' } : {}
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line)
  if (id === undefined) continue
  if (method === 'server/discover' && modern) say({ id, result: { ...whole, ...info, supportedVersions: ['2026-07-28'] } })
  else if (method === 'initialize' && !modern) say({ id, result: { protocolVersion: '2025-11-25', ...info } })
  else if (method === 'tools/list') say({ id, result: { ...whole, tools } })
  else if (method === 'tools/call' && params.name === 'die') process.exit(0)
  else if (method === 'tools/call') say({ id, result: { ...whole, content: [{ type: 'text', text: 'did ' + params.name }] } })
  else say({ id, error: { code: -32601, message: 'Method not found' } })
}
`

const tool = (name: string, description: string) => ({ name, description, inputSchema: { type: 'object' } })

async function house(t: TestContext, era: string): Promise<{ given: Harness; offer(...tools: object[]): void }> {
  const folder = mkdtempSync(join(tmpdir(), 'chaperone-pins-'))
  t.after(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, 'server.mjs'), PROGRAM)
  const offer = (...tools: object[]) => writeFileSync(join(folder, 'offers.json'), JSON.stringify(tools))
  offer(tool('send', 'sends'), tool('die', 'ends'))
  const command = [process.execPath, join(folder, 'server.mjs'), join(folder, 'offers.json'), era]
  const given = await harness({ role: { allow: [{ mcp: 'any', tools: 'any' }] }, servers: { s: { command, isolation: 'none' } } })
  t.after(() => given.close())
  return { given, offer }
}

const reasonOf = ({ result, error }: Json): string => error?.data.reason ?? result._meta?.['dev.chaperone/refusal']?.reason ?? result.content[0].text

let next = 1
const modernCall = async (given: Harness, name: string): Promise<string> => {
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientCapabilities': {},
    'io.modelcontextprotocol/clientInfo': { name: 'x', version: '1' },
  }
  const headers = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': name }
  return reasonOf(
    await answerOf(await given.post('s', { jsonrpc: '2.0', id: next++, method: 'tools/call', params: { name, arguments: {}, _meta } }, headers)),
  )
}

for (const era of ['modern', 'legacy']) {
  test(`a program (${era}) that was started again is another program: its list is looked at before the next call`, async (t) => {
    const { given, offer } = await house(t, era)
    assert.equal(await modernCall(given, 'send'), 'did send')
    offer(tool('send', 'from the next version'), tool('die', 'ends'))
    await modernCall(given, 'die').catch(() => {})
    assert.equal(await modernCall(given, 'send'), 'quarantined')

    const session = await openSession(given, 's', { 'x-test-as': 'clara/cursor' })
    const answer = await given.post('s', { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'send', arguments: {} } }, session)
    assert.equal(reasonOf(await answerOf(answer)), 'quarantined')
  })
}
