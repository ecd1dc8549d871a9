import { sqlitePlace } from '../../audit/fixtures.ts'
import { callsSuite } from './calls-suite.ts'
import { waitingSuite } from './waiting-suite.ts'

callsSuite('SQLite', sqlitePlace)
waitingSuite('SQLite', sqlitePlace)
