import assert from 'node:assert/strict'
import { createHash, createHmac } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, test } from 'node:test'
import { TLSSocket } from 'node:tls'
import pg from 'pg'
import type { Permit } from '../../../access/types.ts'
import { type PostgresDatabaseSpec, postgresDatabaseSpec } from '../../../catalog/postgres-database.ts'
import { systemClock } from '../../../clock.ts'
import { type Postgres, startPostgres } from '../../../demo/postgres.ts'
import { ChaperoneError } from '../../../errors.ts'
import { makeAuthority } from '../authority.fixture.ts'
import { message } from '../raw.fixture.ts'
import { readFirstPacket } from '../wire/first-packet.ts'
import { authenticationOk, backendKeyData, parameterStatus, readyForQuery } from '../wire/write.ts'
import { openQuestions, openUpstream, type UpstreamParts } from './open.ts'

const authority = makeAuthority('database')
const listener = authority.pair({ use: 'server', names: ['localhost', '127.0.0.1'] })
const secrets = new Map<string, string>()
const parts: UpstreamParts = {
  ca: {
    issueDatabase: async ({ spki, user, notAfter }) => ({
      certificate: authority.sign(spki, { use: 'database', user }, notAfter),
      serial: '1',
      notBefore: 0,
      notAfter,
    }),
    bundle: async () => authority.cert,
  },
  clock: systemClock,
  connectMs: 5_000,
  reveal: async (name) => secrets.get(name) ?? assert.fail('no such secret'),
}

const specOf = (port: number, more: Record<string, unknown> = {}): PostgresDatabaseSpec =>
  postgresDatabaseSpec.parse({ address: `localhost:${port}`, databases: ['shop'], ...more })

const permitFor = (user: string) => {
  const controller = new AbortController()
  const action = { resource: { kind: 'postgres', id: 'res_test', name: 'prod', labels: {} }, facts: { user, database: 'postgres' } }
  return { permit: { action, signal: controller.signal } as unknown as Permit, controller }
}
const open = (user: string, spec: PostgresDatabaseSpec) => openUpstream(permitFor(user).permit, spec, {}, parts)
const passwords = (names: Record<string, string>) => ({
  auth: { password: Object.fromEntries(Object.entries(names).map(([user, secret]) => [user, { secret }])) },
})
const fails = (pattern: RegExp, fix?: RegExp) => (error: unknown) => {
  assert.ok(error instanceof ChaperoneError)
  assert.match(error.message, pattern)
  if (fix) assert.match(error.fix ?? '', fix)
  for (const secret of secrets.values()) assert.ok(![error.message, error.detail, error.fix, error.stack].join(' ').includes(secret))
  return true
}

let postgres: Postgres
let dir: string
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'chaperone-credential-test-'))
  postgres = await startPostgres({
    dir: join(dir, 'cluster'),
    tls: { ...listener, clientCa: authority.cert },
    hba: [
      'hostssl all sealed,low 127.0.0.1/32 scram-sha-256',
      'hostssl all old 127.0.0.1/32 md5',
      'hostssl all clear 127.0.0.1/32 password',
      'hostssl all trusted 127.0.0.1/32 trust',
      'hostssl all certain 127.0.0.1/32 cert',
      'host all postgres 127.0.0.1/32 scram-sha-256',
    ].join('\n'),
    settings: { fsync: 'off' },
  })
  const admin = new pg.Client({ connectionString: postgres.superuserUrl })
  await admin.connect()
  await admin.query(`create role sealed login password 'p\u00e4ss w\u00f6rd'; create role clear login password 'clear-pw'; create role trusted login;
    create role certain login; set scram_iterations = 100; create role low login password 'low-pw';
    set password_encryption = 'md5'; create role old login password 'old-pw'`)
  await admin.end()
  for (const [name, value] of Object.entries({
    sealed: 'p\u00e4ss w\u00f6rd',
    wrong: 'another-one',
    clear: 'clear-pw',
    low: 'low-pw',
    old: 'old-pw',
    any: 'any-pw',
  }))
    secrets.set(name, value)
})
after(async () => {
  await postgres.stop()
  await rm(dir, { recursive: true, force: true })
})

test('a sealed password lets us in by SCRAM, bound to the TLS channel', async () => {
  const upstream = await open('sealed', specOf(postgres.port, passwords({ sealed: 'sealed' })))
  assert.deepEqual(upstream.context.path, ['pg_catalog', 'public'])
  upstream.socket.destroy()
})

test('rule 5: a wrong sealed password says so, and repeats nothing of it', async () => {
  await assert.rejects(open('sealed', specOf(postgres.port, passwords({ sealed: 'wrong' }))), fails(/password authentication failed/))
})

test('a database user without a sealed password does not get in, whatever its name', async () => {
  for (const user of ['certain', '__proto__', 'constructor'])
    await assert.rejects(open(user, specOf(postgres.port, passwords({ sealed: 'sealed' }))), fails(/No password is sealed/, /auth\.password/))
})

test('rule 5: MD5 and cleartext are refused before anything is sent, and so is a server that asks for nothing', async () => {
  for (const [user, asks] of [
    ['old', /an MD5 password/],
    ['clear', /a password in the clear/],
    ['trusted', /asks for nothing/],
  ] as const)
    await assert.rejects(open(user, specOf(postgres.port, passwords({ [user]: 'any' }))), fails(asks, /scram-sha-256/))
})

test('a server that asks for a cheap proof gets none', async () => {
  await assert.rejects(open('low', specOf(postgres.port, passwords({ low: 'low' }))), fails(/could not prove/, /4096/))
})

test('a certificate is not followed by a password', async () => {
  await assert.rejects(open('clear', specOf(postgres.port)), fails(/a password in the clear/, /pg_hba\.conf/))
})

test('our own questions run read-only, with nothing of the user in the path of names', async () => {
  const { permit, controller } = permitFor('certain')
  const questions = await openQuestions(permit, specOf(postgres.port), parts)
  const rows = await questions.ask("select current_setting('search_path'), current_setting('transaction_read_only'), null, 'a\nb'")
  assert.deepEqual(rows, [['""', 'on', null, 'a\nb']])
  assert.deepEqual(await questions.ask("select repeat('x', 300000), 1 from generate_series(1, 3)"), Array(3).fill(['x'.repeat(300_000), '1']))
  await assert.rejects(questions.ask('create table t ()'), ChaperoneError)
  await assert.rejects(questions.ask('select 1'), ChaperoneError)
  const again = await openQuestions(permit, specOf(postgres.port), parts)
  const asked = again.ask('select pg_sleep(60)')
  controller.abort(new ChaperoneError('locked', 'A lock fell.'))
  await assert.rejects(asked, fails(/A lock fell/))
})

test('only the authority of this database, or the public ones where the document says so, vouches for the server', async () => {
  await assert.rejects(open('certain', specOf(postgres.port, { tls: { ca: 'public' } })), (error: ChaperoneError) => {
    assert.match(error.detail ?? '', /certificate|issuer|self-signed/)
    return error.code === 'upstream_unavailable'
  })
  await assert.rejects(open('certain', specOf(postgres.port, { tls: { name: 'db.example.com' } })), (error: ChaperoneError) =>
    /does not match/.test(error.detail ?? ''),
  )
})

/** A server of its own words: TLS, then `talk` with the startup packet's parameters. */
const fakes: { close(): void }[] = []
afterEach(() => {
  for (const fake of fakes.splice(0)) fake.close()
})
async function fake(
  talk: (conversation: { send(...frames: Buffer[]): void; next(): Promise<Buffer> }, parameters: ReadonlyMap<string, string>) => Promise<void>,
  hello = 'S',
) {
  const server = createServer((socket: Socket) => {
    socket.once('data', () => {
      socket.write(hello)
      const secure = new TLSSocket(socket, { isServer: true, cert: listener.cert, key: listener.key })
      secure.on('error', () => {})
      const next = async (): Promise<Buffer> => {
        for (;;) {
          const bytes = secure.read() as Buffer | null
          if (bytes) return bytes
          await once(secure, 'readable')
        }
      }
      secure.once('secure', async () => {
        const startup = readFirstPacket(await next())?.packet
        assert.ok(startup?.kind === 'startup')
        await talk({ send: (...frames) => void secure.write(Buffer.concat(frames)), next }, startup.parameters)
      })
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  fakes.push(server)
  return (server.address() as AddressInfo).port
}

const asksFor = (number: number, ...more: Buffer[]) => {
  const code = Buffer.alloc(4)
  code.writeInt32BE(number)
  return message('R', code, ...more)
}
const welcome = () => [
  authenticationOk(),
  parameterStatus('standard_conforming_strings', 'on'),
  parameterStatus('client_encoding', 'UTF8'),
  backendKeyData(1, Buffer.from('abcd')),
  readyForQuery('I'),
]
const said = (standard: string, encoding: string) => [
  parameterStatus('standard_conforming_strings', standard),
  parameterStatus('client_encoding', encoding),
]
const probed = () => [message('D', Buffer.from([0, 1, 0, 0, 0, 2]), Buffer.from('[]')), readyForQuery('I')]

test('a server that does not log us in as it must is not used', async () => {
  const key = backendKeyData(1, Buffer.from('abcd'))
  for (const [frames, why] of [
    [[...said('on', 'UTF8'), key, readyForQuery('I')], /let us in without saying so/],
    [[authenticationOk(), ...said('on', 'UTF8'), readyForQuery('I')], /no key for cancelling/],
    [[authenticationOk(), ...said('off', 'UTF8'), key, readyForQuery('I')], /does not keep the settings/],
    [[authenticationOk(), ...said('on', 'SJIS'), key, readyForQuery('I')], /does not keep the settings/],
  ] as const) {
    const port = await fake(async ({ send }) => send(...frames))
    await assert.rejects(open('a', specOf(port)), fails(why))
  }
  // Bytes in the clear behind the answer would be taken for what came through TLS (CVE-2021-23222).
  const port = await fake(async ({ send }) => send(...welcome()), 'SR')
  await assert.rejects(open('a', specOf(port)), (error: ChaperoneError) => /does not speak TLS/.test(error.detail ?? ''))
})

test('the settings that statements are read by stand behind all others', async () => {
  const settings = { client_encoding: 'LATIN1', standard_conforming_strings: 'off' }
  const upstream = await openUpstream(permitFor('certain').permit, specOf(postgres.port), settings, parts)
  assert.deepEqual(
    ['client_encoding', 'standard_conforming_strings'].map((name) => upstream.parameters.get(name)),
    ['UTF8', 'on'],
  )
  upstream.socket.destroy()
})

test('an IAM token is one for this user at this address, signed with the credentials of the process', async () => {
  const aws = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' }
  const before = Object.fromEntries(Object.keys(aws).map((name) => [name, process.env[name]]))
  Object.assign(process.env, aws)
  try {
    let token = ''
    const port = await fake(async ({ send, next }) => {
      send(asksFor(3))
      token = (await next()).toString('utf8', 5).replace(/\0$/, '')
      send(...welcome())
      await next()
      send(...probed())
    })
    const upstream = await open('analyst_ro', specOf(port, { auth: { aws_iam: { region: 'eu-central-1' } } }))
    upstream.socket.destroy()
    assert.match(token, new RegExp(`^localhost:${port}/\\?`))
    const query = new URL(`https://${token}`).searchParams
    assert.deepEqual(
      ['Action', 'DBUser', 'X-Amz-Expires', 'X-Amz-SignedHeaders'].map((name) => query.get(name)),
      ['connect', 'analyst_ro', '900', 'host'],
    )
    assert.ok(Math.abs(systemClock.now() - amzTime(query.get('X-Amz-Date') ?? '')) < 60_000)
    assert.equal(query.get('X-Amz-Signature'), signature(query, `localhost:${port}`, 'eu-central-1', aws.AWS_SECRET_ACCESS_KEY))
  } finally {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  }
})

test('rule 5: a server that says the token again is not repeated, and one that asks for nothing gets none', async () => {
  process.env.AWS_ACCESS_KEY_ID = 'AKIDEXAMPLE'
  process.env.AWS_SECRET_ACCESS_KEY = 'example'
  try {
    const iam = { auth: { aws_iam: { region: 'eu-central-1' } } }
    const parrot = await fake(async ({ send, next }) => {
      send(asksFor(3))
      const token = (await next()).toString('utf8', 5).replace(/\0$/, '')
      send(message('E', Buffer.from(`SFATAL\0C28P01\0Mno ${token} here\0\0`)))
    })
    await assert.rejects(open('a', specOf(parrot, iam)), fails(/no \*\*\* here$/))
    const open_ = await fake(async ({ send }) => send(...welcome()))
    await assert.rejects(open('a', specOf(open_, iam)), fails(/asks for nothing where an IAM token/))
    const curious = await fake(async ({ send, next }) => {
      send(asksFor(3))
      await next()
      send(asksFor(3))
    })
    await assert.rejects(open('a', specOf(curious, iam)), fails(/a password in the clear where an IAM token/))
    const md5 = await fake(async ({ send }) => send(asksFor(5, Buffer.from('salt'))))
    await assert.rejects(open('a', specOf(md5, iam)), fails(/an MD5 password where an IAM token/, /rds_iam/))
  } finally {
    delete process.env.AWS_ACCESS_KEY_ID
    delete process.env.AWS_SECRET_ACCESS_KEY
  }
})

test('a server that does not know the password cannot pretend that it does', async () => {
  const sealed = passwords({ a: 'any' })
  const sasl = asksFor(10, Buffer.from('SCRAM-SHA-256\0\0'))
  const first = async (next: () => Promise<Buffer>) => /r=([^,]+)$/.exec((await next()).toString('utf8'))?.[1]
  const challenge = (nonce: string | undefined, iterations = 4096) => asksFor(11, Buffer.from(`r=${nonce}more,s=c2FsdA==,i=${iterations}`))

  const liar = await fake(async ({ send, next }) => {
    send(sasl)
    send(challenge(await first(next)))
    await next()
    send(asksFor(12, Buffer.from(`v=${Buffer.alloc(32).toString('base64')}`)), ...welcome())
  })
  await assert.rejects(open('a', specOf(liar, sealed)), fails(/could not prove/))
  const hasty = await fake(async ({ send, next }) => {
    send(sasl)
    send(challenge(await first(next)))
    await next()
    send(...welcome())
  })
  await assert.rejects(open('a', specOf(hasty, sealed)), fails(/asks for nothing/))
  const greedy = await fake(async ({ send, next }) => {
    send(sasl)
    send(challenge(await first(next), 100_000_000))
  })
  await assert.rejects(open('a', specOf(greedy, sealed)), fails(/could not prove/))
  // Iterations said twice: the library takes the last, so the last must not slip past the fewest.
  const doubled = await fake(async ({ send, next }) => {
    send(sasl)
    send(asksFor(11, Buffer.from(`r=${await first(next)}more,s=c2FsdA==,i=4096,i=1`)))
    await next()
    assert.fail('it got a proof that is quick to guess from')
  })
  await assert.rejects(open('a', specOf(doubled, sealed)), fails(/could not prove/, /iterations/))
  const twice = await fake(async ({ send, next }) => {
    send(sasl)
    const nonce = await first(next)
    send(challenge(nonce))
    await next()
    send(challenge(nonce))
  })
  await assert.rejects(open('a', specOf(twice, sealed)), fails(/a SCRAM password where/))
  let chosen = ''
  const better = await fake(async ({ send, next }) => {
    send(asksFor(10, Buffer.from('SCRAM-SHA-256\0SCRAM-SHA-256-PLUS\0\0')))
    chosen = (await next()).toString('latin1', 5)
    send(asksFor(3))
  })
  await assert.rejects(open('a', specOf(better, sealed)), fails(/a password in the clear/))
  assert.match(chosen, /^SCRAM-SHA-256-PLUS\0.{4}p=tls-server-end-point,,/s)
  const lesser = await fake(async ({ send }) => send(asksFor(10, Buffer.from('SCRAM-SHA-1\0\0'))))
  await assert.rejects(open('a', specOf(lesser, sealed)), fails(/could not prove/))
})

/** Signature version 4 of a query (docs.aws.amazon.com, "Create a signed AWS API request"), written anew to check the library's. */
function signature(query: URLSearchParams, host: string, region: string, secret: string): string {
  const encode = (text: string) => encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
  const canonical = [...query]
    .filter(([name]) => name !== 'X-Amz-Signature')
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join('&')
  const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
  const hmac = (key: Buffer | string, text: string) => createHmac('sha256', key).update(text).digest()
  const date = query.get('X-Amz-Date') ?? ''
  const scope = `${date.slice(0, 8)}/${region}/rds-db/aws4_request`
  const request = ['GET', '/', canonical, `host:${host}`, '', 'host', sha256('')].join('\n')
  const key = scope.split('/').reduce<Buffer | string>((signing, part) => hmac(signing, part), `AWS4${secret}`)
  return hmac(key, ['AWS4-HMAC-SHA256', date, scope, sha256(request)].join('\n')).toString('hex')
}

const amzTime = (text: string) => Date.parse(text.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'))
