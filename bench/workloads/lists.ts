import { mcpServerSpec } from '../../src/catalog/mcp-server.ts'
import type { ChaperoneSaid } from '../chaperone.ts'
import { asked, type Contender, contest, type Era, legacySession, type Plan } from '../contest.ts'
import { type Result, start, stop } from '../measure.ts'

const SERVERS = 10
const ERAS: readonly Era[] = ['legacy', 'modern']

/** W4: `tools/list` at the endpoint of all servers, ten with twenty tools each, against the list of one of them. */
export async function w4(plan: Plan): Promise<Result> {
  const upstream = await start<{ port: number }>('upstream.ts')
  const names = Array.from({ length: SERVERS }, (_, i) => `s${i}`)
  const chaperone = await start<ChaperoneSaid>('chaperone.ts', {
    documents: [
      ...names.map((name) => ({
        kind: 'mcp',
        name,
        spec: mcpServerSpec.parse({ url: `http://127.0.0.1:${upstream.said.port}/twenty/${name}`, trusted: true }),
      })),
      { kind: 'role', name: 'bench', spec: { allow: [{ mcp: 'any', tools: ['*'] }] } },
    ],
    roles: ['bench'],
  })
  const load = await start<{ ready: true }>('load.ts')
  try {
    const { said } = chaperone
    const tls = { ca: said.ca }
    const bearer = { Authorization: `Bearer ${said.agent.token}` }
    const contenders: Contender[] = []
    for (const era of ERAS) {
      for (const [name, path, expect] of [
        ['one', '/mcp/s0', '"tool_19"'],
        ['all', '/mcp', '"s9__tool_19"'],
      ] as const) {
        const url = `https://localhost:${said.web.split(':').at(-1)}${path}`
        const { headers, body } = asked(era, 'tools/list')
        const session = era === 'legacy' ? await legacySession(url, tls, { ...headers, ...bearer }) : {}
        contenders.push({
          name: `${name} ${era}`,
          pid: chaperone.child.pid!,
          order: { url, ...tls, headers: { ...headers, ...bearer, ...session }, body, expect },
        })
      }
    }
    const { rows, notes } = await contest(plan, load.child, contenders, [1])
    const p50 = (name: string) => rows.find((row) => row.name === name)!.p50_ms
    return {
      workload: 'w4',
      rows,
      to_floor: null,
      floor: `none: the list of all ${SERVERS} servers is held against the list of one`,
      notes: [
        ...notes,
        ...ERAS.map(
          (era) => `${era}: the list of all takes ${(p50(`all ${era}`) / p50(`one ${era}`)).toFixed(2)} times as long as that of one (p50)`,
        ),
      ],
    }
  } finally {
    await Promise.all([load.child, chaperone.child, upstream.child].map(stop))
  }
}
