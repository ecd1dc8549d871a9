import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { joinSuite } from './join-suite.ts'

joinSuite('SQLite', async () => ({ dataDir: mkdtempSync(join(tmpdir(), 'chaperone-join-')) }))
