import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { drive } from './driven.ts'

// The one that is a devDependency; `npm run test:servers` drives the others.
const program = fileURLToPath(new URL('../../node_modules/@modelcontextprotocol/server-filesystem/dist/index.js', import.meta.url))

drive([
  {
    name: 'filesystem',
    command: async (dir) => [process.execPath, program, dir],
    prepare: (dir) => writeFile(join(dir, 'a.txt'), 'what is in the file'),
    tool: { name: 'read_text_file', args: (dir) => ({ path: join(dir, 'a.txt') }), says: /what is in the file/ },
  },
])
