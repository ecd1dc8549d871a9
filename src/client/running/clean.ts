/** Started by cleaner.ts when its runner has gone without a word: `node clean.ts FOLDER`. */
import { sweepLeft } from './sweep.ts'

await sweepLeft(process.argv[2]!)
