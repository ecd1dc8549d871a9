import { sqlitePlace } from './fixtures.ts'
import { sequencerSuite } from './sequencer-suite.ts'

sequencerSuite('SQLite', sqlitePlace)
