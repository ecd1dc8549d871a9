import { sqlitePlace } from '../../audit/fixtures.ts'
import { accessSuite } from './access-suite.ts'

accessSuite('SQLite', sqlitePlace)
