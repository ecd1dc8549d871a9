import { bind, close, execute, message, type RawClient, sync } from '../../src/gateways/postgres/raw.fixture.ts'
import type { Rig } from '../../src/gateways/postgres/rig.fixture.ts'
import { readErrorFields } from '../../src/gateways/postgres/wire/server.ts'
import { parseMessage, queryMessage } from '../../src/gateways/postgres/wire/write.ts'
import type { User } from './world.ts'

/**
 * One thing that a client sends: a Query; Parse, Bind and Execute; several of these before one Sync (`batch`, texts with
 * NEXT between them); a Parse that is kept by its name, and a run of what was kept, whatever happened in between.
 */
export interface Step {
  readonly sql: string
  readonly via: 'simple' | 'extended' | 'batch' | 'keep' | 'run'
}

export const NEXT = '\n--next\n'

/** What one session sends, in one go or one after the other. */
export interface Script {
  readonly user: User
  readonly steps: readonly Step[]
  readonly pipelined: boolean
}

export interface Answer {
  /** `refused`: Chaperone said no, and the server saw nothing of it. `error`: the server said no. */
  readonly status: 'ok' | 'error' | 'refused' | 'lost' | 'silent'
  readonly code?: string
  readonly message?: string
}

const PATIENCE = 10_000
const letter = (frame: Buffer) => String.fromCharCode(frame[0]!)

export class Session {
  readonly #wire: RawClient

  private constructor(wire: RawClient) {
    this.#wire = wire
  }

  static async open(rig: Rig, user: User): Promise<Session> {
    return new Session(await rig.raw(user))
  }

  /** All of them in one write. */
  async sendAll(steps: readonly Step[]): Promise<Answer[]> {
    this.#wire.send(...steps.flatMap(framesOf))
    const answers: Answer[] = []
    for (const _ of steps) answers.push(answers.at(-1)?.status === 'lost' ? { status: 'lost' } : await this.#answer())
    return answers
  }

  async send(step: Step): Promise<Answer> {
    this.#wire.send(...framesOf(step))
    return await this.#answer()
  }

  /** The one value of SHOW. */
  async show(setting: string): Promise<string> {
    this.#wire.send(queryMessage(`show ${setting}`))
    for (let value = ''; ; ) {
      const frame = await this.#wire.next()
      if (letter(frame) === 'D') value = frame.toString('utf8', 11)
      if (letter(frame) === 'Z') return value
    }
  }

  end(): void {
    this.#wire.end()
  }

  /** Up to ReadyForQuery. */
  async #answer(): Promise<Answer> {
    let answer: Answer = { status: 'ok' }
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<'late'>((done) => (timer = setTimeout(done, PATIENCE, 'late')))
    try {
      for (;;) {
        const frame = await Promise.race([this.#wire.next(), late])
        if (frame === 'late') return { status: 'silent' }
        const type = letter(frame)
        if (type === 'G') this.#wire.send(message('f', Buffer.from('no data\0')), ...[])
        if (type === 'E' && answer.status === 'ok') {
          const fields = readErrorFields(frame)
          const text = fields.get('M') ?? ''
          answer = { status: text.startsWith('Chaperone') ? 'refused' : 'error', code: fields.get('C') ?? '', message: text }
        }
        if (type === 'Z') return answer
      }
    } catch {
      return { ...answer, status: 'lost' }
    } finally {
      clearTimeout(timer)
    }
  }
}

function framesOf({ sql, via }: Step): Buffer[] {
  switch (via) {
    case 'simple':
      return [queryMessage(sql)]
    case 'keep':
      return [close('S', 'kept'), parseMessage('kept', sql), sync()]
    case 'run':
      return [bind('', 'kept'), execute('', 2), execute(''), sync()]
    default:
      return [...sql.split(NEXT).flatMap((text) => [parseMessage('', text), bind('', ''), execute('')]), sync()]
  }
}
