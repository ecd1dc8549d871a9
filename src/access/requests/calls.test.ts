import { sqlitePlace } from '../../audit/fixtures.ts'
import { callsSuite } from './calls-suite.ts'

callsSuite('SQLite', sqlitePlace)
