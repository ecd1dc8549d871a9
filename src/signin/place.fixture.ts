import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Draft } from '../audit/record.ts'
import { openAuthority } from '../ca/authority.ts'
import { manualClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { createIdentity } from '../identity/directory.ts'
import { makeInvitation } from '../identity/invitations.ts'
import { noJoining } from '../identity/joining/joining.fixture.ts'
import { openSessions } from '../identity/sessions.ts'
import { openKeyring } from '../keys/keyring.ts'
import { loadRootKey } from '../keys/root-key.ts'
import type { SessionLimits } from '../policy/session-limits.ts'
import { openStore } from '../store/open.ts'
import { openBrowserSignin } from './browser.ts'
import { openSignin } from './enrol.ts'
import { openPasskeys } from './passkey.ts'
import { openStanding } from './standing.ts'
import { fromBase32, stepAt, totpCode } from './totp.ts'

const MINUTE = 60_000

/** Sign-in in browsers over a real store, with dana enrolled in one of them, a clock that is moved by hand, and a record that can be broken. */
export async function browserPlace(t: TestContext, limits: SessionLimits = {}) {
  const clock = manualClock(Date.UTC(2026, 10, 22))
  const dataDir = mkdtempSync(join(tmpdir(), 'chaperone-browser-'))
  const store = await openStore({ dataDir }, { clock })
  const keyring = await openKeyring(store, await loadRootKey({ store, createAt: `${dataDir}.key` }), clock)
  const ca = await openAuthority(store, keyring, { clock, trustDomain: 'example.org' })
  const records: Draft[] = []
  let broken = false
  const audit = {
    async append(draft: Draft) {
      if (broken) throw new ChaperoneError('audit_unavailable', 'The record cannot be written, so nothing may happen.')
      records.push(draft)
      return { id: `rec_${records.length}`, seq: records.length }
    },
  }
  const sessions = openSessions({ store, audit, clock, raised: async () => {}, mayAct: async () => {}, limitsOf: () => limits })
  const parts = { store, keyring, ca, sessions, audit, clock, trustDomain: 'example.org' }
  const directories = new Map<string, Record<string, unknown>>()
  const standing = openStanding({ store, clock, documents: () => [...directories].map(([name, spec]) => ({ name, spec })) })
  const signin = openSignin({ ...parts, joining: noJoining, ...standing })
  const browsers = openBrowserSignin(parts)
  const passkeys = openPasskeys({ ...parts, browsers, ...standing })
  t.after(async () => {
    await ca.close()
    await store.close()
  })
  const person = (name: string) => store.write((trx) => createIdentity(trx, { kind: 'user', name, source: 'bootstrap', now: clock.now() }))
  const invite = async (identityId: string) =>
    (await store.write((trx) => makeInvitation(trx, { kind: 'invitation', identityId, ttlMs: 60 * MINUTE, now: clock.now() }))).secret

  /** A person who came in by an invitation: his browser, his session, and the codes of his app. The clock stands on a fresh step. */
  const enrolled = async (name: string) => {
    const identity = await person(name)
    const secret = await invite(identity.id)
    const { totp } = await signin.beginEnrol(secret)
    const code = () => totpCode(fromBase32(totp.secret)!, stepAt(clock.now()))
    const cookies = await browsers.enrol({ secret, code: code(), name: 'Firefox on Linux' })
    clock.advance(30_000)
    return { identity, code, ...cookies }
  }
  return {
    clock,
    store,
    keyring,
    audit,
    records,
    sessions,
    ca,
    signin,
    browsers,
    passkeys,
    ...standing,
    /** the `directory` documents that hold */
    directories,
    invite,
    person,
    enrolled,
    types: () => records.map(({ type }) => type),
    breakAudit: () => {
      broken = true
    },
  }
}

/** What somebody is told, to compare. */
export const told = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'ok',
    ({ code, message, fix }) => JSON.stringify({ code, message, fix }),
  )

/** Six digits that are none of these. */
export const wrongCode = (...right: readonly string[]): string =>
  ['000000', '111111', '222222', '333333', '444444'].find((code) => !right.includes(code))!
