import { parentPort } from 'node:worker_threads'
import { fingerprintOf, loadParser, namesOf, type Parsed, parseAnyLength, parseSql, type Reading } from './parse.ts'
import { withoutRepeats } from './repeats.ts'

/** What a tree may hold once its repeats are left out; it is handed over to the thread that serves everybody. */
const MOST_NODES = 20_000

parseAnyLength()
await loadParser()
parentPort!.on('message', (text: string) => {
  parentPort!.postMessage({ parsed: pruned(parseSql(text)), fingerprint: fingerprintOf(text), names: namesOf(text) } satisfies Reading)
})

function pruned(parsed: Parsed): Parsed {
  if ('failure' in parsed) return parsed
  let nodes = 0
  const statements = parsed.statements.map(({ tree, text }) => {
    const smaller = withoutRepeats(tree)
    nodes += smaller.nodes
    return { tree: smaller.tree as typeof tree, text }
  })
  return nodes > MOST_NODES ? { failure: 'it says too many different things to be read', kind: 'size' } : { statements }
}
