import { sqlitePlace } from './fixtures.ts'
import { writerSuite } from './writer-suite.ts'

writerSuite('SQLite', sqlitePlace)
