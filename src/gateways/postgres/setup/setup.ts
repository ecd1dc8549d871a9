import type { Permit } from '../../../access/types.ts'
import type { PostgresDatabaseSpec } from '../../../catalog/postgres-database.ts'
import { type ChaperoneError, toChaperoneError } from '../../../errors.ts'
import type { Resource } from '../../../policy/types.ts'
import { withDeadline } from '../database/deadline.ts'
import { openQuestions, type Questions, type UpstreamParts } from '../database/open.ts'
import { hostAndPort } from '../database/upstream.ts'
import { knock, lookAtServer } from '../database/upstream-look.ts'
import { advice, type Finding, missing, ok } from './findings.ts'
import { hbaName } from './names.ts'
import { rightsOf } from './rights.ts'
import type { DatabaseUser } from './users.ts'

export interface SetupAsk {
  /** of whoever asks; its end ends what is under way */
  readonly permit: Permit
  readonly resource: Resource
  readonly spec: PostgresDatabaseSpec
}

/** Findings about the server (no `user`), or about one user in one database. */
export interface Part {
  readonly user?: string
  readonly database?: string
  readonly findings: readonly Finding[]
}

export interface DatabaseSetup {
  /** What anybody sees who reaches the server. Throws `upstream_unavailable`. */
  look(ask: SetupAsk & { readonly applied: boolean }): Promise<{ readonly from: string; readonly findings: readonly Finding[] }>
  /** Comes in as each user, the way that its connections will, and says what holds and what does not. Never throws for what the database does. */
  check(ask: SetupAsk & { readonly users: readonly DatabaseUser[] }): Promise<readonly Part[]>
}

const DAY_MS = 24 * 3_600_000
const SOON_MS = 21 * DAY_MS

export function databaseSetup(parts: UpstreamParts): DatabaseSetup {
  const { ca, clock, connectMs } = parts

  const timed = <T>(permit: Permit, work: (deadline: AbortSignal) => Promise<T>) => withDeadline(permit.signal, clock, connectMs, work)

  async function look({ permit, resource, spec, applied }: SetupAsk & { readonly applied: boolean }) {
    // A resource that is not applied has no authority yet, and looking at a server is no reason to make one.
    const own = spec.tls.ca === undefined
    const authorities = own ? (applied ? await ca.bundle(`database:${resource.id}`) : undefined) : spec.tls.ca === 'public' ? undefined : spec.tls.ca
    const seen = await timed(permit, (deadline) => lookAtServer(spec, authorities, deadline))
    if (!seen.tls)
      return {
        from: seen.from,
        findings: [missing('the server does not speak TLS', `Give it a certificate: chaperone db setup ${resource.name} prints the steps.`)],
      }
    const { certificate, protocol, distrust } = seen.tls
    const until = Date.parse(certificate.validTo)
    const name = spec.tls.name ?? hostAndPort(spec.address).host
    const shown = `its certificate is ${oneLine(certificate.subject)} from ${oneLine(certificate.issuer)}, until ${certificate.validTo}`
    const findings = [ok(`the server speaks ${protocol}`)]
    if (own && !applied)
      findings.push(
        distrust === undefined
          ? advice(`${shown}, which the public authorities vouch for`, 'To believe them: --ca public.')
          : advice(
              `${shown}`,
              'Chaperone has to know who vouches for it: --ca FILE; without that, `chaperone db setup` gives it a certificate of ours.',
            ),
      )
    else if (distrust === undefined) findings.push(ok(`${shown}, and names ${name}`))
    else
      findings.push(
        missing(
          `${shown}, which is not trusted: ${why(distrust, name)}`,
          `Check tls.ca and tls.name (now ${name}) in the document, or give the server a certificate of ours: chaperone db setup ${resource.name}`,
        ),
      )
    if (until - clock.now() < SOON_MS)
      findings.push(advice(`its certificate ends ${certificate.validTo}`, 'Renew it: chaperone db sign-server, and reload.'))
    return { from: seen.from, findings }
  }

  async function asUser(ask: SetupAsk, user: DatabaseUser, database: string): Promise<readonly Finding[]> {
    const { permit, spec, resource } = ask
    let questions: Questions
    try {
      questions = await openQuestions(permit, spec, parts, {}, { resourceId: resource.id, user: user.name, database })
    } catch (cause) {
      const error = toChaperoneError(cause)
      return [missing(error.detail === undefined ? error.message : `${error.message} (${error.detail})`, fixOf(error, spec, user.name, database))]
    }
    try {
      return [ok(letIn(spec)), ...(await rightsOf(user, database, questions)), ...(await otherDoors(ask, user.name, database))]
    } catch (cause) {
      return [missing(`the look was not finished: ${toChaperoneError(cause).message}`)]
    } finally {
      questions.close()
    }
  }

  /** Whether somebody with a password, or with nothing, gets in as this user around Chaperone. */
  async function otherDoors({ permit, spec, resource }: SetupAsk, user: string, database: string): Promise<readonly Finding[]> {
    const found: Finding[] = []
    for (const over of ['tls', 'plain'] as const) {
      const { answer, said } = await timed(permit, (deadline) => knock(spec, resource.id, { user, database, over }, ca, deadline))
      const where = over === 'tls' ? 'with TLS but without a certificate' : 'without TLS'
      if (answer === 'open') found.push(missing(`anybody is let in as this user ${where}, without any proof`, reject(user)))
      else if (answer === 'asks' && (over === 'plain' || spec.auth === 'certificate'))
        found.push(missing(`the server asks this user for ${said} ${where}: there is a way in beside the one of Chaperone`, reject(user)))
    }
    return found.length > 0
      ? found
      : [ok(`there is no other way in for it from here${spec.auth === 'certificate' ? ', with a password or without TLS' : ' without TLS'}`)]
  }

  return {
    look,
    async check(ask) {
      let server: Part
      try {
        server = { findings: (await look({ ...ask, applied: true })).findings }
      } catch (cause) {
        const error = toChaperoneError(cause)
        return [{ findings: [missing(error.message, error.fix)] }]
      }
      // Whom nobody can reach safely, nobody has to try to come in to.
      if (server.findings.some(({ level }) => level === 'missing')) return [server]
      const found: Part[] = [server]
      // One after the other: a look is no load test.
      for (const database of ask.spec.databases)
        for (const user of ask.users) found.push({ user: user.name, database, findings: await asUser(ask, user, database) })
      return found
    },
  }
}

const reject = (user: string) => `host all ${hbaName(user)} all reject     (in pg_hba.conf, below the line of Chaperone and above all others)`

const letIn = ({ auth }: PostgresDatabaseSpec) =>
  auth === 'certificate'
    ? 'it is let in with a certificate of minutes'
    : 'aws_iam' in auth
      ? 'it is let in with an IAM token'
      : 'it is let in with the sealed password'

function fixOf(error: ChaperoneError, spec: PostgresDatabaseSpec, user: string, database: string): string | undefined {
  const from = /no pg_hba\.conf entry for host "([^"]+)"/.exec(error.message)?.[1]
  if (from !== undefined && spec.auth === 'certificate')
    return `hostssl ${hbaName(database)} ${hbaName(user)} ${from}/${from.includes(':') ? 128 : 32} cert     (in pg_hba.conf)`
  return (
    error.fix ??
    (/alert|certificate/i.test(error.detail ?? '')
      ? 'Add the text of `chaperone ca show database:NAME` to ssl_ca_file of the server, and reload.'
      : undefined)
  )
}

const oneLine = (name: string) => name.split('\n').join(', ')

/** Node gives OpenSSL's codes. */
function why(code: string, name: string): string {
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return `it does not name ${name}`
  if (code === 'CERT_HAS_EXPIRED') return 'it has ended'
  if (/SELF_SIGNED|UNABLE_TO/.test(code)) return 'another authority than the named one vouches for it'
  return code
}
