import type { TLSSocket } from 'node:tls'
import { readErrorFields } from './wire/server.ts'
import { startupPacket } from './wire/write.ts'

export type RawClient = Awaited<ReturnType<typeof logInRaw>>

/** A client of bytes, logged in. */
export async function logInRaw(socket: TLSSocket, parameters: Record<string, string>) {
  let held = Buffer.alloc(0)
  let ended = false
  let wake = () => {}
  const frames: Buffer[] = []
  socket.on('data', (chunk) => {
    held = Buffer.concat([held, chunk])
    while (held.length >= 5 && held.length > held.readInt32BE(1)) {
      const end = held.readInt32BE(1) + 1
      frames.push(held.subarray(0, end))
      held = held.subarray(end)
    }
    wake()
  })
  socket.on('close', () => {
    ended = true
    wake()
  })
  socket.on('error', () => {})
  const next = async (): Promise<Buffer> => {
    while (frames.length === 0) {
      if (ended) throw new Error('closed')
      await new Promise<void>((done) => (wake = done))
    }
    return frames.shift()!
  }
  const raw = {
    socket,
    process: 0,
    secret: Buffer.alloc(0),
    /** What the server reported at login. */
    parameters: [] as (readonly [string, string])[],
    /** Sends the messages in one write. */
    send: (...messages: Buffer[]) => socket.write(Buffer.concat(messages)),
    end: () => socket.destroy(),
    next,
    /** The types of the messages up to and with the given one. */
    async until(type: string): Promise<string> {
      let types = ''
      while (!types.endsWith(type)) types += String.fromCharCode((await next())[0]!)
      return types
    },
    /** The fields of the next ErrorResponse. */
    async error(): Promise<ReadonlyMap<string, string>> {
      for (;;) {
        const frame = await next()
        if (frame[0] === 'E'.charCodeAt(0)) return readErrorFields(frame)
      }
    },
    /** Up to the n-th ReadyForQuery: types with the values of rows, codes of errors and the status. `shapes`: row descriptions too. */
    async answers(readies = 1, shapes = false): Promise<string[]> {
      const said: string[] = []
      for (let left = readies; left > 0; ) {
        const frame = await next()
        const type = String.fromCharCode(frame[0]!)
        if (type === 'Z') left--
        if (type === 'S' || (type === 'T' && !shapes)) continue
        said.push(
          type +
            (type === 'Z'
              ? String.fromCharCode(frame[5]!)
              : type === 'E' || type === 'N'
                ? `:${readErrorFields(frame).get('C')}`
                : type === 'D'
                  ? `:${frame.toString('latin1', 11)}`
                  : type === 'C'
                    ? `:${frame.toString('latin1', 5, frame.length - 1)}`
                    : ''),
        )
      }
      return said
    },
  }
  socket.write(startupPacket(parameters))
  for (;;) {
    const frame = await next()
    if (frame[0] === 'E'.charCodeAt(0)) throw new Error(readErrorFields(frame).get('M'))
    if (frame[0] === 'K'.charCodeAt(0)) Object.assign(raw, { process: frame.readInt32BE(5), secret: frame.subarray(9) })
    if (frame[0] === 'S'.charCodeAt(0)) raw.parameters.push(frame.toString('utf8', 5, frame.length - 1).split('\0') as [string, string])
    if (frame[0] === 'Z'.charCodeAt(0)) return raw
  }
}

const cstring = (text: string) => Buffer.from(`${text}\0`)
const int16 = (value: number) => Buffer.from([(value >> 8) & 255, value & 255])
const int32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

export function message(type: string, ...body: Buffer[]): Buffer {
  const content = Buffer.concat(body)
  return Buffer.concat([Buffer.from(type), int32(content.length + 4), content])
}

/** Messages of the extended protocol. */
export const bind = (portal: string, statement: string, values: readonly string[] = []) =>
  message(
    'B',
    cstring(portal),
    cstring(statement),
    int16(0),
    int16(values.length),
    ...values.flatMap((value) => [int32(Buffer.byteLength(value)), Buffer.from(value)]),
    int16(0),
  )
export const execute = (portal: string, most = 0) => message('E', cstring(portal), int32(most))
export const close = (of: 'S' | 'P', name: string) => message('C', Buffer.from(of), cstring(name))
export const describe = (of: 'S' | 'P', name: string) => message('D', Buffer.from(of), cstring(name))
export const sync = () => message('S')
export const flush = () => message('H')
