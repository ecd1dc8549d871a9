import { sqlitePlace } from './fixtures.ts'
import { verifySuite } from './verify-suite.ts'

verifySuite('SQLite', sqlitePlace)
