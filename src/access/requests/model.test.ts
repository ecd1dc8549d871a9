import { sqlitePlace } from '../../audit/fixtures.ts'
import { modelSuite } from './model-suite.ts'

modelSuite('SQLite', sqlitePlace)
