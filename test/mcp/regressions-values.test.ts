import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { harness, openSession } from '../../src/gateways/mcp/harness.fixture.ts'
import type { Era } from './fixture/rpc.ts'
import { rawServer, tool } from './raw-server.ts'
import { legacy, MODERN, modern } from './whole.ts'

// What a double, or a schema of today, does not keep must arrive as it was written, whatever is rewritten around it.

const VALUES =
  '{"big":12345678901234567890,"negative":-9007199254740993,"long":0.1000000000000000055511151231257827,"huge":1E400,"zero":-0.0,"one":1.0}'
const ARGUMENTS = `{"n":${VALUES},"text":"\\u00e9 \\ud83d\\ude00","Empty":{},"null":null,"b":1,"a":[ 1.50 ,{}]}`
const RESULT = `{"content":[{"type":"text","text":"x","future":${VALUES}},{"type":"hologram","depth":1e2}],"structuredContent":{"n":${VALUES}},"future":{"b":1.0,"a":[true]}}`
const EXTRA = `,"x-future":{"n":${VALUES},"b":1,"a":2},"title":"\\u00e9"`

describe('rule 10: values arrive as they were written, in both directions (R06)', () => {
  for (const upstream of ['legacy', 'modern'] as const) {
    for (const client of ['legacy', 'modern'] as const) {
      for (const [endpoint, prefix] of [
        ['s', ''],
        ['', 's__'],
      ] as const) {
        test(`${client} client, ${upstream} server, ${endpoint === '' ? 'the endpoint of all servers' : 'its own endpoint'}`, async (t) => {
          const raw = await rawServer(upstream as Era)
          raw.results.set('tools/list', `{"tools":[${tool('hidden')},${tool('keep', EXTRA)},${tool('also_hidden')}],"future":1.0}`)
          raw.results.set('tools/call', RESULT)
          const given = await harness({
            role: { allow: [{ mcp: 'any', can: 'any' }], deny: [{ mcp: 'any', tools: ['hidden', 'also_hidden'] }] },
            servers: { s: { url: raw.url } },
          })
          t.after(async () => {
            await given.close()
            raw.close()
          })
          const session = client === 'legacy' ? await openSession(given, endpoint) : {}
          const ask = async (method: string, params: string, named?: string): Promise<string> => {
            const request = client === 'modern' ? modern(method) : { headers: session, body: legacy(method) }
            // The envelope of the era stays; what is asked is written by hand.
            const body =
              client === 'modern'
                ? request.body.replace('"params":{', `"params":{${params}${params && ','}`)
                : request.body.replace('"params":{', `"params":{${params}`)
            const headers = { ...request.headers, ...(client === 'modern' && named !== undefined ? { 'mcp-name': named } : {}) }
            return (await given.post(endpoint, body, headers)).text()
          }
          const listed = await ask('tools/list', '')
          assert.ok(listed.includes(`"x-future":{"n":${VALUES},"b":1,"a":2},"title":"\\u00e9"`), listed)
          assert.doesNotMatch(listed, /hidden/)

          const name = `${prefix}keep`
          const answered = await ask('tools/call', `"name":"${name}","future":1.50,"arguments":${ARGUMENTS}`, name)
          const arrived = raw.got.findLast(({ message }) => message.method === 'tools/call')?.text ?? answered
          assert.ok(arrived.includes(`"arguments":${ARGUMENTS}`), arrived)
          assert.ok(arrived.includes('"future":1.50'), arrived)
          assert.ok(arrived.includes('"name":"keep"'), arrived)
          for (const part of [
            `"content":[{"type":"text","text":"x","future":${VALUES}},{"type":"hologram","depth":1e2}]`,
            `"structuredContent":{"n":${VALUES}}`,
            '"future":{"b":1.0,"a":[true]}',
          ])
            assert.ok(answered.includes(part), answered)
          const stored = given
            .of('action.intent')
            .findLast(({ action }) => action?.operation === 'tools/call')
            ?.bodies?.find((body) => body.name === 'arguments')
          assert.equal(String(stored?.bytes), ARGUMENTS, 'what is on record is what was sent')
          assert.equal(raw.got.at(-1)?.headers['mcp-protocol-version'] === MODERN, upstream === 'modern')
        })
      }
    }
  }
})
