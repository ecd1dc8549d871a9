import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'

export interface Answer {
  readonly id: number | null
  readonly result?: Readonly<Record<string, unknown>>
  readonly error?: { readonly code: number; readonly message: string; readonly data?: Readonly<Record<string, unknown>> }
}

/** A program that speaks MCP on stdin and stdout, as a client starts it. */
export interface Spoken {
  readonly child: ChildProcessWithoutNullStreams
  /** Whatever is on stdout that is no line of JSON-RPC is an error here. */
  ask(method: string, params?: object): Promise<Answer>
  /** Resolves with the match as soon as stderr has it. */
  said(pattern: RegExp): Promise<RegExpExecArray>
  text(): string
  /** Closes its input; its exit code. */
  end(): Promise<number | null>
}

const META = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': { name: 'x', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
}

export function spoken(
  test: { after(work: () => Promise<void>): void },
  program: string,
  args: readonly string[],
  more: { readonly env: NodeJS.ProcessEnv; readonly cwd?: string; readonly capabilities?: object },
): Spoken {
  const { capabilities, ...options } = more
  const child = spawn(program, args, { ...options, stdio: ['pipe', 'pipe', 'pipe'] })
  test.after(async () => void child.kill('SIGKILL'))
  const waiting = new Map<number, { done(answer: Answer): void; fail(error: Error): void }>()
  const hearing: { pattern: RegExp; done(match: RegExpExecArray): void }[] = []
  let [out, said, last] = ['', '', 0]
  // What is written to one that has ended is answered by its end.
  child.stdin.on('error', () => {})
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    const lines = (out + chunk).split('\n')
    out = lines.pop()!
    for (const line of lines) {
      const answer = JSON.parse(line) as Answer
      if (answer.id !== null && answer.id !== undefined) waiting.get(answer.id)?.done(answer)
    }
  })
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    said += chunk
    for (const { pattern, done } of hearing) {
      const match = pattern.exec(said)
      if (match) done(match)
    }
  })
  const ended = once(child, 'close')
  ended.then(([code]) => {
    for (const { fail } of waiting.values()) fail(new Error(`it ended with ${code}: ${said}`))
  })
  return {
    child,
    text: () => said,
    ask(method, params = {}) {
      const id = ++last
      const _meta = { ...META, ...(capabilities === undefined ? {} : { 'io.modelcontextprotocol/clientCapabilities': capabilities }) }
      child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', id, method, params: { ...params, _meta } })}\n`)
      return new Promise((done, fail) => waiting.set(id, { done, fail }))
    },
    said: (pattern) =>
      new Promise((done) => {
        const match = pattern.exec(said)
        if (match) done(match)
        else hearing.push({ pattern, done })
      }),
    async end() {
      child.stdin.end()
      const [code] = (await ended) as [number | null]
      return code
    },
  }
}
