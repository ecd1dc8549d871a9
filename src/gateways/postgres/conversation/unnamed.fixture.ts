import { describe, execute, type RawClient } from '../raw.fixture.ts'

/** One message of a batch, as the models of a connection make them. `portal`: what it is about, where that is a portal. */
export interface Part {
  readonly frame: Buffer
  readonly words: string
  readonly does: 'parse' | 'bind' | 'describe' | 'execute' | 'close'
  readonly portal?: string
}

/** A Query, or a batch and its Sync. */
export interface Sent {
  readonly kind: 'query' | 'batch'
  readonly frames: readonly Buffer[]
  readonly words: string
  readonly parts?: readonly Part[]
}

/**
 * The answers of the server itself, without killing it: what would be executed of the unnamed portal that a Query left in a failed
 * transaction (portals.ts) is executed of a portal that nobody has. Of the former no answer is promised, of the latter 34000.
 */
export async function answersOfServer(raw: RawClient, sent: readonly Sent[]): Promise<string[]> {
  const all: string[] = []
  let status = 'I'
  /** a Bind of ours made the unnamed portal */
  let isOurs = false
  for (const one of sent) {
    const kills = status === 'E' && !isOurs
    raw.send(...(kills ? withoutUnnamed(one) : one.frames))
    const said = await raw.answers(1, true).catch(() => undefined)
    all.push(said?.join(' ') ?? 'closed')
    if (!said) break
    isOurs = one.kind === 'batch' ? isBound(one.parts ?? [], said, isOurs) : isOurs && isKept(said, status)
    status = said.at(-1)!.at(-1)!
    isOurs &&= status !== 'I'
  }
  return all
}

function withoutUnnamed({ frames, parts = [] }: Sent): Buffer[] {
  const bound = parts.findIndex(({ does, portal }) => does === 'bind' && portal === '')
  return frames.map((frame, i) => {
    const { does, portal } = parts[i] ?? {}
    if (portal !== '' || (bound >= 0 && i > bound)) return frame
    if (does === 'describe') return describe('P', NOBODYS)
    return does === 'execute' ? execute(NOBODYS) : frame
  })
}

const NOBODYS = 'nobody has it'

/** Each message of a batch has one last answer, up to the one that failed. */
function isBound(parts: readonly Part[], said: readonly string[], before: boolean): boolean {
  const done = said.filter((one) => /^([123IsnT]$|C:)/.test(one)).length
  const last = parts.slice(0, done).findLast(({ does, portal }) => portal === '' && (does === 'bind' || does === 'close'))
  return last ? last.does === 'bind' : before
}

/** A Query that came to none of its statements took nothing. */
const isKept = (said: readonly string[], status: string): boolean =>
  said[0] === 'I' || (status === 'E' && !said.some((one) => one.startsWith('C:')) && said.some((one) => /^E:(25P02|42601)$/.test(one)))
