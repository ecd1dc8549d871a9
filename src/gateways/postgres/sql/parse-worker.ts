import { parentPort } from 'node:worker_threads'
import { fingerprintOf, loadParser, type Parsed, parseAnyLength, parseSql } from './parse.ts'
import { withoutRepeats } from './repeats.ts'

export interface BigAnswer {
  readonly parsed: Parsed
  readonly fingerprint: string | undefined
}

/** What a tree may hold once its repeats are left out; it is handed over to the thread that serves everybody. */
const MOST_NODES = 20_000

parseAnyLength()
await loadParser()
parentPort!.on('message', (text: string) => {
  parentPort!.postMessage({ parsed: pruned(parseSql(text)), fingerprint: fingerprintOf(text) } satisfies BigAnswer)
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
