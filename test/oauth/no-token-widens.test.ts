import assert from 'node:assert/strict'
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { before, describe, test } from 'node:test'
import fc from 'fast-check'
import { SignJWT } from 'jose'
import type { McpServerSpec } from '../../src/catalog/mcp-server.ts'
import { describeCall } from '../../src/gateways/mcp/describe.ts'
import type { Action, Effect } from '../../src/policy/types.ts'
import { begin, CALLBACK, CLAUDE, type Rig, rig, type Tokens } from './rig.ts'

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const jwks = JSON.stringify({ keys: [{ ...pair.publicKey.export({ format: 'jwk' }), kid: 'k', alg: 'ES256', use: 'sig' }] })

const DOCUMENTS = `
kind: role
name: some-of-other
spec: { allow: [ { mcp: files, tools: any }, { mcp: other, tools: ["get_*"] } ] }
---
kind: user
name: boris
spec: { roles: [some-of-other] }
---
kind: agent
name: helper
spec: { owner: boris, roles: [some-of-other], oauth: { jwks: ${jwks} } }
---
kind: profile
name: only-files
spec: { limits: { resources: [mcp/files] }, for: 2h }
---
kind: profile
name: only-get
spec: { limits: { tools: ["files/get_*", "other/*"] }, for: 8h }
`

type Server = 'files' | 'other'
interface Ask {
  readonly server: Server
  readonly tool: string
  readonly effect: Effect
}
type May = (ask: Ask) => boolean

const ASKS: readonly Ask[] = (['files', 'other'] as const).flatMap((server) =>
  ['get_one', 'set_one'].flatMap((tool) => (['read', 'write'] as const).map((effect) => ({ server, tool, effect }))),
)

/** What each part leaves, written down once more and without a word of the code that is tried. */
const PERSON: May = ({ server, tool }) => server === 'files' || tool.startsWith('get_')
const PROFILES: Readonly<Record<string, May>> = {
  '': () => true,
  reading: ({ effect }) => effect === 'read',
  'only-files': ({ server }) => server === 'files',
  'only-get': ({ server, tool }) => server === 'other' || tool.startsWith('get_'),
}
const reading = (only: boolean): May => (only ? ({ effect }) => effect === 'read' : () => true)
const at = (server: Server | undefined): May => (server === undefined ? () => true : (ask) => ask.server === server)
const all =
  (...parts: readonly May[]): May =>
  (ask) =>
    parts.every((may) => may(ask))
const isReadOnly = (scope: string | undefined) => scope?.includes('mcp:read') === true && !scope.split(' ').includes('mcp')

const scope = fc.constantFrom('mcp', 'mcp:read', 'mcp mcp:read', undefined)
const server = fc.constantFrom<Server | undefined>('files', 'other', undefined)
const step = fc.record({ how: fc.constantFrom<'refresh' | 'exchange'>('refresh', 'exchange'), scope, server, named: fc.boolean() })
const sign = fc.record({
  scope,
  server,
  profile: fc.constantFrom(...Object.keys(PROFILES)),
  read: fc.boolean(),
  steps: fc.array(step, { maxLength: 3 }),
})

type Sign = typeof sign extends fc.Arbitrary<infer One> ? One : never
/** The widest there is, and then less of it in each of the ways. */
const WIDEST = { scope: 'mcp', server: undefined, profile: '', read: false } as const
const EXAMPLES: [Sign][] = [
  [{ ...WIDEST, steps: [{ how: 'exchange', scope: 'mcp:read', server: undefined, named: false }] }],
  [{ ...WIDEST, server: 'files', steps: [{ how: 'exchange', scope: 'mcp', server: 'other', named: true }] }],
  [{ ...WIDEST, read: true, steps: [{ how: 'refresh', scope: 'mcp', server: 'files', named: true }] }],
]

describe('rule 7: no token of OAuth opens more than person, profile, consent and scope leave, all together', () => {
  let r: Rig
  const after: (() => Promise<void>)[] = []
  before(async () => {
    r = await rig({ after: (work) => void after.push(work) })
    await r.home.apply(DOCUMENTS)
  })
  test.after(async () => {
    for (const work of after.reverse()) await work()
  })

  const resourceOf = (of: Server | undefined) => (of === undefined ? `https://${r.web}/mcp` : r.resource(of))
  const given = (more: Record<string, string | undefined>) =>
    Object.fromEntries(Object.entries(more).filter((pair): pair is [string, string] => pair[1] !== undefined))

  function actionOf({ server, tool, effect }: Ask): Action {
    const { resource, spec } = r.home.server.parts.resources.find('mcp', server)!
    return { ...describeCall({ resource, spec: spec as McpServerSpec, tool }), effects: [effect] }
  }

  /** What this token opens, at whichever address it is brought to. */
  async function opened(token: string): Promise<readonly Ask[]> {
    const { tokens, sessions, guard } = r.home.server.parts
    const found: Ask[] = []
    for (const ask of ASKS)
      for (const address of [resourceOf(ask.server), resourceOf(undefined)]) {
        const principal = await tokens.verify(token, address).catch(() => undefined)
        if (!principal) continue
        const session = await sessions.open(principal)
        if (guard.judge(session, actionOf(ask)).verdict === 'allow') found.push(ask)
      }
    return found
  }

  const proof = () =>
    new SignJWT({ jti: randomUUID(), iss: 'helper', sub: 'helper', aud: `https://${r.web}` })
      .setProtectedHeader({ alg: 'ES256', kid: 'k' })
      .setIssuedAt()
      .setExpirationTime('1m')
      .sign(pair.privateKey)

  test('for whatever is asked, chosen, refreshed and handed on', async () => {
    let made = 0
    let wide = 0
    const holds = async (tokens: Tokens & { readonly scope?: string }, may: May) => {
      made += 1
      const found = await opened(tokens.access_token)
      assert.deepEqual(found, ASKS.filter(may))
      // Nor is it told more than it got.
      if (tokens.scope?.split(' ').includes('mcp') === false) assert.ok(found.every(({ effect }) => effect === 'read'))
      if (found.some(({ effect }) => effect === 'write')) wide += 1
    }
    await fc.assert(
      fc.asyncProperty(sign, async ({ scope, server, profile, read, steps }) => {
        const flow = begin({ scope, resource: server && r.resource(server) })
        const browser = await r.browser('boris')
        const page = await browser.open(flow)
        const fields = { profile, ...(read ? { read: 'only' } : {}) }
        const looked = await browser.answer(page, { verdict: 'look', ...fields })
        const back = await browser.finish({ path: page.path, page: looked }, fields)
        let tokens: Tokens = await r.token({
          grant_type: 'authorization_code',
          client_id: CLAUDE,
          redirect_uri: CALLBACK,
          code: back.searchParams.get('code')!,
          code_verifier: flow.verifier,
        })
        assert.equal(tokens.status, 200, JSON.stringify(tokens))
        const may = all(PERSON, PROFILES[profile]!, at(server), reading(read || isReadOnly(scope)))
        await holds(tokens, may)
        for (const next of steps) {
          const more = given({ scope: next.scope, resource: next.named ? resourceOf(next.server) : undefined })
          if (next.how === 'refresh') {
            const refreshed = await r.token({ grant_type: 'refresh_token', client_id: CLAUDE, refresh_token: tokens.refresh_token, ...more })
            // Refused, it has not been used up.
            if (refreshed.status !== 200) continue
            tokens = refreshed
            await holds(tokens, may)
          } else {
            const assertion = await proof()
            const handed = await r.token({
              grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
              client_id: 'helper',
              client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
              client_assertion: assertion,
              subject_token: tokens.access_token,
              subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
              ...more,
            })
            if (handed.status === 200) await holds(handed, all(may, reading(isReadOnly(next.scope)), at(next.named ? next.server : server)))
          }
        }
      }),
      { numRuns: 15, examples: EXAMPLES },
    )
    // It says something only if some were given, and some of them were wide.
    assert.ok(made > 15 && wide > 0, `${made} ${wide}`)
  })
})
