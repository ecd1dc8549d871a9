/**
 * The thread that signs. A certificate costs about a millisecond of CPU; on the data plane's thread each would hold up
 * every request. The worker is given an authority's key once in its life and answers asks about it by id.
 */
import type { KeyObject } from 'node:crypto'
import { parentPort } from 'node:worker_threads'
import { AsnConvert } from '@peculiar/asn1-schema'
import { Name } from '@peculiar/asn1-x509'
import { toChaperoneError } from '../errors.ts'
import { type Issuer, type Leaf, type Life, type Signed, signAuthority, signLeaf } from './certificate.ts'

/** A key that the worker may sign with from now on. */
export interface Put {
  readonly put: string
  /** DER of the authority's name */
  readonly name: Uint8Array
  readonly keyIdentifier: Uint8Array
  readonly privateKey: KeyObject
}

/** One thing to sign with the key `by`: a leaf, or (when `leaf` is absent) an authority. */
export interface Ask {
  readonly ask: number
  readonly by: string
  readonly spki: Uint8Array
  readonly life: Life
  readonly leaf?: Leaf
}

export type Answer =
  | { readonly ask: number; readonly signed: Signed }
  | { readonly ask: number; readonly code: string; readonly message: string; readonly detail?: string }

const issuers = new Map<string, Issuer>()

function answer({ ask, by, spki, life, leaf }: Ask): Answer {
  try {
    const issuer = issuers.get(by)
    if (!issuer) throw new Error(`no key ${by}`)
    return { ask, signed: leaf ? signLeaf(issuer, spki, leaf, life) : signAuthority(issuer, spki, life) }
  } catch (error) {
    const { code, message, detail } = toChaperoneError(error)
    return { ask, code, message, ...(detail === undefined ? {} : { detail }) }
  }
}

parentPort?.on('message', (message: Put | Ask) => {
  if ('put' in message) {
    const { put, name, keyIdentifier, privateKey } = message
    issuers.set(put, { name: AsnConvert.parse(name, Name), keyIdentifier, privateKey })
  } else {
    parentPort?.postMessage(answer(message))
  }
})
