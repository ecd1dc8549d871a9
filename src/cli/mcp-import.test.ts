import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addedByHand } from './mcp-import.ts'

test('what an import could not look at is added by a whole line, with secrets by their names', () => {
  const spec = { command: ['npx', '-y', 'server files', '/srv/my notes'], env: { TOKEN: { secret: 'mcp/notes/token' }, MODE: 'a b' } }
  assert.equal(
    addedByHand({ name: 'notes', spec }),
    "Add it with what it needs (--read, --write), and run this again: chaperone mcp add --name notes --env 'TOKEN=secret:mcp/notes/token' --env 'MODE=a b' --read FOLDER --apply -- 'npx' '-y' 'server files' '/srv/my notes'",
  )
  assert.equal(addedByHand({ name: 'far', spec: { url: 'https://mcp.example.com' } }), 'Run this again when it answers.')
})
