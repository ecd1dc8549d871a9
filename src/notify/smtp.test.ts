import assert from 'node:assert/strict'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { SMTPServer, type SMTPServerOptions } from 'smtp-server'
import { fakeAuthority } from '../../test/fakes/authority.ts'
import { notifierSpec } from '../catalog/notifier.ts'
import { ChaperoneError } from '../errors.ts'
import { START } from './house.fixture.ts'
import { type Mail, mailOf } from './mail.ts'
import { systemResolve } from './reach.ts'
import { type SendMail, sendMail } from './smtp.ts'
import type { Story } from './types.ts'

const PASSWORD = 'correct horse battery staple'

const story: Story = {
  on: 'lock.made',
  at: START,
  lock: { id: 'lck_1', kind: 'identity', name: 'boris', reason: 'Grüße\r\nBcc: evil@example.test\r\n.\r\nRCPT TO:<evil@example.test>' },
}

interface Delivered {
  readonly from: string
  readonly to: readonly string[]
  readonly text: string
  readonly secure: boolean
  readonly user: string | undefined
}

async function mailServer(t: TestContext, options: SMTPServerOptions = {}) {
  const authority = await fakeAuthority()
  const { key, chain } = await authority.issue(['localhost'])
  const delivered: Delivered[] = []
  const server = new SMTPServer({
    key,
    cert: chain,
    authOptional: true,
    logger: false,
    onAuth({ username, password }, _session, done) {
      if (password === PASSWORD) done(null, { user: username })
      else done(new Error('no'))
    },
    onData(stream, session, done) {
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('end', () => {
        const { mailFrom, rcptTo } = session.envelope
        delivered.push({
          from: mailFrom ? mailFrom.address : '',
          to: rcptTo.map(({ address }) => address),
          text: Buffer.concat(chunks).toString(),
          secure: session.secure,
          user: typeof session.user === 'string' ? session.user : undefined,
        })
        done()
      })
    },
    ...options,
  })
  server.on('error', () => {}) // a client that leaves in the middle
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', () => ready()))
  t.after(() => new Promise<void>((closed) => server.close(closed)))
  return { delivered, ca: authority.certificate, port: (server.server.address() as AddressInfo).port }
}

const smtpOf = (smtp: object): SendMail['smtp'] =>
  notifierSpec.parse({ on: ['*'], mail: { to: 'approvers', from: 'chaperone@example.test', smtp: { host: 'localhost', ...smtp } } }).mail!.smtp

const send = (smtp: object, more: Partial<SendMail> = {}) =>
  sendMail({
    mail: mailOf(story, 'dana@example.test'),
    from: 'chaperone@example.test',
    smtp: smtpOf(smtp),
    password: PASSWORD,
    id: 'dlv_1',
    at: START,
    resolve: systemResolve,
    signal: new AbortController().signal,
    ...more,
  })

test('a mail goes over STARTTLS with a login, to one person, and nothing that was written begins a header or another address', async (t) => {
  const { delivered, ca, port } = await mailServer(t)
  assert.deepEqual(await send({ port, ca, user: 'chaperone', password: { secret: 'smtp' } }), { ok: true })
  const [mail, ...others] = delivered
  assert.deepEqual(others, [])
  assert.deepEqual([mail!.from, mail!.to, mail!.secure, mail!.user], ['chaperone@example.test', ['dana@example.test'], true, 'chaperone'])
  const head = mail!.text.slice(0, mail!.text.indexOf('\r\n\r\n'))
  for (const line of [
    'To: dana@example.test',
    'From: chaperone@example.test',
    'Subject: [Chaperone] Locked by Chaperone: identity boris',
    'Auto-Submitted: auto-generated',
    'Message-ID: <dlv_1@example.test>',
    'Date: Sun, 22 Nov 2026 12:00:00 +0000',
  ])
    assert.ok(head.split('\r\n').includes(line), `${line}\n${head}`)
  assert.ok(!/^bcc/im.test(head))
  assert.match(mail!.text, /text\/plain[\s\S]*text\/html/)
})

test('several have one message, of whom none sees the others; whose mailbox is busy is tried again alone, and one that refuses is told of last', async (t) => {
  let busy = true
  const { delivered, ca, port } = await mailServer(t, {
    onRcptTo({ address }, _session, done) {
      const code = address.startsWith('gone') ? 550 : address.startsWith('busy') && busy ? 450 : undefined
      done(code === undefined ? null : Object.assign(new Error('not now'), { responseCode: code }))
    },
  })
  const mail = mailOf(story, ['dana@example.test', 'busy@example.test', 'gone@example.test', 'erin@example.test'])
  const first = await send({ port, ca }, { mail })
  assert.ok(!first.ok && !first.final && first.rest, JSON.stringify(first))
  const rest = JSON.parse(first.rest) as Mail
  assert.deepEqual([rest.to, rest.refused], [['busy@example.test'], 1])
  busy = false
  assert.deepEqual(await send({ port, ca }, { mail: rest }), {
    ok: false,
    error: 'a mailbox of several refused the message; the others have it',
    final: true,
  })
  assert.deepEqual(
    delivered.map(({ to }) => to),
    [['dana@example.test', 'erin@example.test'], ['busy@example.test']],
  )
  const heads = delivered.map(({ text }) => text.slice(0, text.indexOf('\r\n\r\n')))
  assert.ok(!/(dana|erin|gone)@/.test(heads[0]!), heads[0])
})

test('a name with line ends, a comma or a quote in it changes neither subject nor address', async (t) => {
  const { delivered, ca, port } = await mailServer(t)
  const lock = { ...story.lock!, name: 'x\r\nBcc: evil@example.test\r\n\r\nbody, "<evil@example.test>" \u2028Bcc: evil@example.test' }
  assert.deepEqual(await send({ port, ca }, { mail: mailOf({ ...story, lock }, 'dana@example.test') }), { ok: true })
  assert.deepEqual(delivered[0]!.to, ['dana@example.test'])
  const head = delivered[0]!.text.slice(0, delivered[0]!.text.indexOf('\r\n\r\n'))
  assert.ok(!/^bcc/im.test(head), head)
})

test('TLS from the first byte, too', async (t) => {
  const { delivered, ca, port } = await mailServer(t, { secure: true })
  assert.deepEqual(await send({ port, ca, tls: 'required' }), { ok: true })
  assert.equal(delivered[0]!.secure, true)
})

test('a server without TLS gets no message and no password', async (t) => {
  const { delivered, ca, port } = await mailServer(t, { hideSTARTTLS: true, disabledCommands: ['STARTTLS'] })
  const attempt = await send({ port, ca, user: 'chaperone', password: { secret: 'smtp' } })
  assert.equal(attempt.ok, false)
  assert.equal(delivered.length, 0)
  assert.deepEqual(await send({ port, tls: 'none', insecure: true }), { ok: true })
  assert.equal(delivered[0]!.secure, false)
})

test('a certificate that nobody vouches for ends it', async (t) => {
  const { delivered, port } = await mailServer(t)
  assert.equal((await send({ port })).ok, false)
  assert.equal(delivered.length, 0)
})

test('what the server says is in no error but its code; a mailbox that does not exist is final, a wrong password is not', async (t) => {
  const nobody = await mailServer(t, {
    onRcptTo: (_address, _session, done) => done(Object.assign(new Error(`no such mailbox, ${PASSWORD}`), { responseCode: 550 })),
  })
  assert.deepEqual(await send({ port: nobody.port, ca: nobody.ca }), { ok: false, error: 'SMTP 550 at RCPT TO', final: true })
  const { ca, port } = await mailServer(t)
  const attempt = await send({ port, ca, user: 'chaperone', password: { secret: 'smtp' } }, { password: `${PASSWORD}?` })
  assert.deepEqual(attempt, { ok: false, error: 'SMTP 535 at AUTH PLAIN' })
})

test('a server that hangs, or answers without end, is left', async (t) => {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => sockets.add(socket.on('error', () => {})))
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const late = new AbortController()
  server.once('connection', () => late.abort(new ChaperoneError('upstream_timeout', 'no answer within 10 s')))
  assert.deepEqual(await send({ port }, { signal: late.signal }), { ok: false, error: 'no answer within 10 s' })

  let sent = 0
  server.once('connection', (socket) => {
    const more = (): void => {
      sent += 16 * 1024
      if (!socket.destroyed) socket.write(`220-${'x'.repeat(16 * 1024)}`, () => setImmediate(more))
    }
    more()
  })
  assert.equal((await send({ port })).ok, false)
  assert.ok(sent < 8 * 1024 * 1024, `${sent} bytes were taken`)
})

test('no mail goes to a metadata service or this machine by another name', async (t) => {
  const { delivered, ca, port } = await mailServer(t)
  for (const address of ['127.0.0.1', '169.254.169.254', '::1']) {
    const attempt = await send({ host: 'mail.test', port, ca }, { resolve: async () => [{ address, family: address === '::1' ? 6 : 4 }] })
    assert.ok(!attempt.ok && attempt.error.startsWith('refused: '), JSON.stringify(attempt))
  }
  assert.equal(delivered.length, 0)
})
