import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto'

/** CBOR (RFC 8949) as far as an attestation needs it: small maps, texts, bytes and integers. */
function cbor(value: unknown): Buffer {
  const head = (major: number, n: number) =>
    n < 24 ? Buffer.of((major << 5) | n) : n < 256 ? Buffer.of((major << 5) | 24, n) : Buffer.of((major << 5) | 25, n >> 8, n & 255)
  if (typeof value === 'number') return value >= 0 ? head(0, value) : head(1, -1 - value)
  if (typeof value === 'string') return Buffer.concat([head(3, Buffer.byteLength(value)), Buffer.from(value)])
  if (value instanceof Uint8Array) return Buffer.concat([head(2, value.length), value])
  const entries = [...(value as Map<unknown, unknown>)]
  return Buffer.concat([head(5, entries.length), ...entries.flatMap(([key, one]) => [cbor(key), cbor(one)])])
}

const sha256 = (data: string | Uint8Array) => createHash('sha256').update(data).digest()
const clientData = (type: string, challenge: string, origin: string) => Buffer.from(JSON.stringify({ type, challenge, origin, crossOrigin: false }))

export interface Lies {
  readonly origin?: string
  readonly rpId?: string
  /** user verification was not done */
  readonly unverified?: boolean
  readonly counter?: number
  readonly challenge?: string
  readonly userHandle?: string
  readonly id?: string
}

/** An authenticator in software, which also lies when told to. Answers as `toJSON()` of a browser does. */
export function softAuthenticator(place: { readonly rpId: string; readonly origin: string }) {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { x, y } = publicKey.export({ format: 'jwk' }) as { x: string; y: string }
  const id = randomBytes(32)
  let counter = 0
  const dataOf = (lies: Lies, flags: number, rest: Uint8Array = Buffer.alloc(0)) => {
    const count = Buffer.alloc(4)
    count.writeUInt32BE(lies.counter ?? ++counter)
    return Buffer.concat([sha256(lies.rpId ?? place.rpId), Buffer.of(flags | 0x01 | (lies.unverified ? 0 : 0x04)), count, rest])
  }
  const named = (lies: Lies) => ({
    id: lies.id ?? id.toString('base64url'),
    rawId: lies.id ?? id.toString('base64url'),
    type: 'public-key' as const,
    clientExtensionResults: {},
  })
  return {
    id: id.toString('base64url'),
    create(challenge: string, lies: Lies = {}) {
      const cose = cbor(
        new Map<number, unknown>([
          [1, 2],
          [3, -7],
          [-1, 1],
          [-2, Buffer.from(x, 'base64url')],
          [-3, Buffer.from(y, 'base64url')],
        ]),
      )
      const authData = dataOf(lies, 0x40, Buffer.concat([Buffer.alloc(16), Buffer.of(0, id.length), id, cose]))
      return {
        ...named(lies),
        response: {
          clientDataJSON: clientData('webauthn.create', lies.challenge ?? challenge, lies.origin ?? place.origin).toString('base64url'),
          attestationObject: cbor(
            new Map<string, unknown>([
              ['fmt', 'none'],
              ['attStmt', new Map()],
              ['authData', authData],
            ]),
          ).toString('base64url'),
          transports: ['internal'],
        },
      }
    },
    get(challenge: string, lies: Lies = {}) {
      const client = clientData('webauthn.get', lies.challenge ?? challenge, lies.origin ?? place.origin)
      const data = dataOf(lies, 0)
      return {
        ...named(lies),
        response: {
          clientDataJSON: client.toString('base64url'),
          authenticatorData: data.toString('base64url'),
          signature: sign('sha256', Buffer.concat([data, sha256(client)]), privateKey).toString('base64url'),
          ...(lies.userHandle === undefined ? {} : { userHandle: Buffer.from(lies.userHandle).toString('base64url') }),
        },
      }
    },
  }
}
