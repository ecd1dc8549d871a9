import { claimSuite } from './claim-suite.ts'
import { sqlitePlace } from './fixtures.ts'
import { writerSuite } from './writer-suite.ts'

writerSuite('SQLite', sqlitePlace)
claimSuite('SQLite', sqlitePlace)
