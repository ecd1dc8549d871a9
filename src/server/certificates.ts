import { constants, generateKeyPairSync } from 'node:crypto'
import { readFileSync, watch } from 'node:fs'
import { isIP } from 'node:net'
import type { SecureContextOptions, TlsOptions } from 'node:tls'
import { type CertificateAuthority, TTL } from '../ca/types.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'

/**
 * The certificates of our own listeners, kept fresh. Contexts are handed out as they are now and announced when they
 * change, so that a listener swaps them without dropping a connection.
 */
export interface ListenerCertificates {
  /** mTLS: our own server authority; clients are asked for a certificate of the identity authority. */
  mutual(): TlsOptions
  /** For browsers and bearer clients: from files, or our own authority. Never asks for a certificate. */
  web(): TlsOptions
  /** Called whenever one of the two changed. */
  onChange(see: () => void): () => void
  close(): void
}

/**
 * A resumed TLS session keeps an expired client certificate "authorized" in Node (measured on 24.21 and 26.10), so
 * nothing is ever resumed: neither by ticket nor, with no session id context to match, by id.
 */
const noResumption: SecureContextOptions = { secureOptions: constants.SSL_OP_NO_TICKET, minVersion: 'TLSv1.2' }

interface CertificateParts {
  readonly ca: CertificateAuthority
  readonly clock: Clock
  readonly names: readonly string[]
  readonly webFiles?: { readonly cert: string; readonly key: string }
  readonly failed: (error: unknown) => void
}

/** Between two tries at the least: half of what is left comes to nothing at the end, and with it a node that does nothing else. */
const AGAIN_MS = 10_000

export async function listenerCertificates({ ca, clock, names, webFiles, failed }: CertificateParts): Promise<ListenerCertificates> {
  const watchers = new Set<() => void>()
  const announce = () => {
    for (const see of watchers) see()
  }
  let own = await makeOwn()
  let clients = await ca.bundle('identity')
  let files = webFiles && readFiles(webFiles)
  let disarm = arm()

  async function makeOwn() {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const notAfter = clock.now() + TTL.longestMs
    const issued = await ca.issueServer({ spki: publicKey.export({ type: 'spki', format: 'der' }), names, notAfter })
    // With its authority: an invitation names the authority's key, so a client must be able to see it (design 3.4).
    const authority = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/.exec(await ca.bundle('server'))![0]
    return {
      cert: `${issued.certificate.trimEnd()}\n${authority}`,
      key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
      notAfter: issued.notAfter,
    }
  }

  function arm() {
    return clock.at(clock.now() + Math.max(AGAIN_MS, (own.notAfter - clock.now()) / 2), () => {
      renew().catch(failed)
    })
  }

  async function renew() {
    disarm()
    try {
      own = await makeOwn()
      announce()
    } finally {
      // A failed renewal is tried again at half of what is left; the old certificate serves until its end.
      disarm = arm()
    }
  }

  const stopAuthority = ca.onChange((purpose) => {
    const work =
      purpose === 'identity'
        ? ca.bundle('identity').then((bundle) => {
            clients = bundle
            announce()
          })
        : purpose === 'server'
          ? renew()
          : Promise.resolve()
    work.catch(failed)
  })

  const fileWatchers = webFiles
    ? [webFiles.cert, webFiles.key].map((file) =>
        watch(file, { persistent: false }, () => {
          try {
            files = readFiles(webFiles)
            announce()
          } catch (error) {
            // A half-written pair is not an end: the old pair stays until the new one reads well.
            failed(error)
          }
        }),
      )
    : []

  return {
    mutual: () => ({ ...noResumption, cert: own.cert, key: own.key, ca: clients, requestCert: true, rejectUnauthorized: false }),
    web: () => ({ ...noResumption, cert: files?.cert ?? own.cert, key: files?.key ?? own.key }),
    onChange(see) {
      watchers.add(see)
      return () => watchers.delete(see)
    },
    close() {
      disarm()
      stopAuthority()
      for (const watcher of fileWatchers) watcher.close()
    },
  }
}

function readFiles({ cert, key }: { readonly cert: string; readonly key: string }) {
  try {
    return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') }
  } catch (error) {
    throw new ChaperoneError('usage', `The web certificate cannot be read: ${(error as Error).message}`, { fix: 'Check --web-cert and --web-key.' })
  }
}

/** Under which names our own certificate answers: what was asked for, the listening host, and loopback. */
export function certificateNames(publicHosts: readonly string[], listenHosts: readonly string[]): readonly string[] {
  const hosts = listenHosts.filter((host) => host !== '0.0.0.0' && host !== '::')
  return [...new Set([...publicHosts, ...hosts, 'localhost', '127.0.0.1', '::1'])].filter((name) => isIP(name) !== 0 || /^[A-Za-z0-9.-]+$/.test(name))
}
