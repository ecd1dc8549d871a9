import { sqlitePlace } from '../../audit/fixtures.ts'
import { accessSuite } from './access-suite.ts'
import { answersSuite } from './answers-suite.ts'
import { seenSuite } from './seen-suite.ts'

accessSuite('SQLite', sqlitePlace)
answersSuite('SQLite', sqlitePlace)
seenSuite('SQLite', sqlitePlace)
