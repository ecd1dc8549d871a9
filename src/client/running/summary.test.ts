import assert from 'node:assert/strict'
import { test } from 'node:test'
import { summaryLines } from './summary.ts'

test('the summary says what may be reached, what is asked about, what may be asked for, and what is missing with the line that mends it', () => {
  const tools = Array.from({ length: 9 }, (_, i) => `tool_${i}`)
  assert.deepEqual(
    summaryLines({
      name: 'boris/claude-code',
      behalf: 'boris',
      command: ['claude'],
      until: '2026-11-23 12:00:00Z',
      fence: { how: 'none', network: 'open', note: { text: 'not isolated: bwrap is not installed', fix: 'Install bubblewrap.' } },
      abilities: {
        servers: [
          { name: 'files', allowed: tools, asks: ['write_file'] },
          { name: 'mail', allowed: [], asks: [] },
          { name: 'chat', allowed: [], asks: [] },
        ],
        databases: [],
        may_request: [{ role: 'writer', for_at_most: '10m', resources: ['mcp/files'] }],
      },
      unlisted: ['chat'],
      services: [{ service: 'orders', database: { resource: 'orders', database: 'shop', user: 'reader' } }],
      missing: [
        { text: 'not isolated: bwrap is not installed', fix: 'Install bubblewrap.' },
        { text: 'FOO is not set', fix: 'Set it.' },
      ],
      limits: ['Only to read.'],
      stripped: ['AWS_PROFILE'],
    }),
    [
      'boris/claude-code, on behalf of boris, runs claude until 2026-11-23 12:00:00Z',
      '  limits     Only to read.',
      '  tools      files: tool_0, tool_1, tool_2, tool_3, tool_4, tool_5 and 3 more; asks a human first: write_file',
      '             mail: none that may be used',
      '             chat: not known yet, see below',
      '  databases  orders/shop as reader: service=orders',
      '  may ask    writer on mcp/files, at most 10m: chaperone requests ask writer --reason "…"',
      '  fence      none: the program can do what you can',
      '             not passed on: AWS_PROFILE (--env NAME passes one on)',
      '  missing    not isolated: bwrap is not installed. Install bubblewrap.',
      '             FOO is not set. Set it.',
    ],
  )
})
