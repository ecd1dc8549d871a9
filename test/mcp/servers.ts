/**
 * npm run test:servers: other people's MCP servers, driven for real through Chaperone: by clients of both eras, over HTTP
 * and through the shim. Brought from the registry when they are wanted; skipped with a line where they cannot be.
 */
import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Driven, drive } from './driven.ts'
import { onDemand } from './on-demand.ts'

const OFFICIAL = '@modelcontextprotocol/server'
const program = async (spec: string, path: string) => [process.execPath, (await onDemand(spec)).file(path)]

const SERVERS: readonly Driven[] = [
  {
    name: 'everything',
    command: async () => [...(await program(`${OFFICIAL}-everything@2026.8.31`, 'dist/index.js')), 'stdio'],
    tool: { name: 'echo', args: { message: 'hello' }, says: /hello/ },
  },
  {
    name: 'memory',
    command: () => program(`${OFFICIAL}-memory@2026.8.31`, 'dist/index.js'),
    env: (dir) => ({ MEMORY_FILE_PATH: join(dir, 'memory.jsonl') }),
    tool: { name: 'read_graph', args: {}, says: /entities/ },
  },
  {
    name: 'sequential-thinking',
    command: () => program(`${OFFICIAL}-sequential-thinking@2026.8.31`, 'dist/index.js'),
    tool: {
      name: 'sequentialthinking',
      args: { thought: 'one', thoughtNumber: 1, totalThoughts: 1, nextThoughtNeeded: false },
      says: /thoughtNumber/,
    },
  },
  {
    name: 'dbhub',
    command: async () => [...(await program('@bytebase/dbhub@1.4.0', 'dist/index.js')), '--transport', 'stdio', '--demo'],
    tool: { name: 'execute_sql', args: { sql: 'SELECT 40 + 2 AS answer' }, says: /42/ },
  },
  {
    name: 'git',
    command: () => program('@cyanheads/git-mcp-server@2.15.3', 'dist/index.js'),
    env: () => ({ MCP_TRANSPORT_TYPE: 'stdio', MCP_LOG_LEVEL: 'error' }),
    async prepare(dir) {
      await mkdir(join(dir, 'repository'))
      await writeFile(join(dir, 'repository', 'a.txt'), 'a')
      await promisify(execFile)('git', ['init', '-q', join(dir, 'repository')])
    },
    tool: { name: 'git_status', args: (dir) => ({ path: join(dir, 'repository') }), says: /a\.txt/ },
  },
]

drive(SERVERS)
