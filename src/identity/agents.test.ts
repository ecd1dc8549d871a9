import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { agentsSuite } from './agents-suite.ts'

const dir = await mkdtemp(join(tmpdir(), 'chaperone-agents-'))
after(() => rm(dir, { recursive: true, force: true }))

agentsSuite('SQLite', async () => ({ dataDir: await mkdtemp(join(dir, 'store-')) }))
