import { connect, type Socket } from 'node:net'
import type { NotifierSpec } from '../catalog/notifier.ts'
import { ChaperoneError } from '../errors.ts'
import type { Mail } from './mail.ts'
import { assertWritten, checkedLookup, faultOf, type Resolve, trust } from './reach.ts'
import type { Attempt } from './types.ts'

export interface SendMail {
  readonly mail: Mail
  readonly from: string
  readonly smtp: NonNullable<NotifierSpec['mail']>['smtp']
  readonly password: string | undefined
  /** of the delivery: a receiver that sees a message twice can tell by its Message-ID */
  readonly id: string
  readonly at: number
  readonly resolve: Resolve
  readonly signal: AbortSignal
}

/** A reply over this is no reply. */
const LONGEST_REPLY = 64 * 1024
/** The injected clock ends an attempt; nodemailer's own timers, which are longer, never do. */
const NEVER_FIRST_MS = 120_000

/** One message by SMTP. The socket is ours, so that the address is checked like every other. Never rejects. */
export async function sendMail({ mail, from, smtp, password, id, at, resolve, signal }: SendMail): Promise<Attempt> {
  const { createTransport } = await import('nodemailer') // 40 ms to load, and most nodes send no mail
  const host = smtp.host.replace(/^\[|\]$/g, '')
  const plain = smtp.tls === 'none'
  try {
    const transport = createTransport({
      host,
      port: smtp.port,
      secure: smtp.tls === 'required',
      requireTLS: smtp.tls === 'starttls',
      ignoreTLS: plain,
      tls: { minVersion: 'TLSv1.2', ...trust(smtp.ca), ...(plain ? {} : { servername: host }) },
      ...(smtp.user === undefined || password === undefined ? {} : { auth: { user: smtp.user, pass: password } }),
      name: 'chaperone.invalid', // the name of this machine is nobody's business
      disableFileAccess: true,
      disableUrlAccess: true,
      maxResponseSize: LONGEST_REPLY,
      connectionTimeout: NEVER_FIRST_MS,
      greetingTimeout: NEVER_FIRST_MS,
      socketTimeout: NEVER_FIRST_MS,
      getSocket(_options: unknown, done: (error: Error | null, socket?: { connection: Socket }) => void) {
        open(host, smtp.port, plain, resolve, signal).then(
          (connection) => done(null, { connection }),
          (error: Error) => done(error),
        )
      },
    })
    const domain = from.slice(from.lastIndexOf('@') + 1)
    const several = typeof mail.to !== 'string'
    const sent = await transport.sendMail({
      from,
      // None of them is told who else can say yes.
      to: several ? 'undisclosed-recipients:;' : mail.to,
      ...(several ? { envelope: { from, to: [...mail.to] } } : {}),
      subject: mail.subject,
      text: mail.text,
      html: mail.html,
      date: new Date(at),
      messageId: `<${id}@${domain}>`,
      // RFC 3834: no out-of-office answers to it
      headers: { 'Auto-Submitted': 'auto-generated', 'X-Auto-Response-Suppress': 'All' },
      disableFileAccess: true,
      disableUrlAccess: true,
    })
    return leftOf(mail, (sent as { rejectedErrors?: readonly Refused[] }).rejectedErrors ?? [])
  } catch (error) {
    if (signal.aborted) return { ok: false, error: faultOf(signal.reason) }
    const { responseCode, command } = error as { responseCode?: number; command?: string }
    if (responseCode === undefined) return { ok: false, error: faultOf(error) }
    const at = typeof command === 'string' && /^[A-Z ]{1,20}$/.test(command) ? ` at ${command}` : ''
    // About this message and mailbox the server has spoken; a wrong password may be mended.
    const final = responseCode >= 500 && /^(MAIL FROM|RCPT TO|DATA)$/.test(command ?? '')
    return { ok: false, error: `SMTP ${responseCode}${at}`, ...(final ? { final: true } : {}) }
  }
}

interface Refused {
  readonly recipient?: string
  readonly responseCode?: number
}

/** What came of a message that some of several mailboxes have: those that may take it later are tried again, alone. */
function leftOf(mail: Mail, errors: readonly Refused[]): Attempt {
  const later = errors.filter(({ responseCode = 0 }) => responseCode < 500).flatMap(({ recipient }) => recipient ?? [])
  const refused = (mail.refused ?? 0) + errors.length - later.length
  if (later.length > 0) {
    const rest: Mail = { ...mail, to: later, ...(refused > 0 ? { refused } : {}) }
    return {
      ok: false,
      error: `SMTP ${errors.find(({ responseCode = 0 }) => responseCode < 500)!.responseCode} at RCPT TO`,
      rest: JSON.stringify(rest),
    }
  }
  if (refused === 0) return { ok: true }
  return {
    ok: false,
    error: `${refused === 1 ? 'a mailbox' : `${refused} mailboxes`} of several refused the message; the others have it`,
    final: true,
  }
}

function open(host: string, port: number, plain: boolean, resolve: Resolve, signal: AbortSignal): Promise<Socket> {
  const opened = Promise.withResolvers<Socket>()
  try {
    assertWritten(host, plain)
    const socket = connect({ host, port, lookup: checkedLookup(resolve, plain) })
    const stop = () => socket.destroy(signal.reason as Error)
    signal.addEventListener('abort', stop, { once: true })
    socket.once('close', () => {
      signal.removeEventListener('abort', stop)
      opened.reject(new ChaperoneError('upstream_unavailable', 'closed before it was open'))
    })
    socket.once('error', opened.reject)
    socket.once('connect', () => opened.resolve(socket))
    if (signal.aborted) stop()
  } catch (error) {
    opened.reject(error)
  }
  return opened.promise
}
