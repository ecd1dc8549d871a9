import { z } from 'zod'
import { parseDuration } from '../encoding/duration.ts'
import { compileGlob } from '../encoding/glob.ts'
import type { ChaperoneError } from '../errors.ts'

/** Everything that can be told outside. `notifier.test` is not among them: it is sent by hand. */
const TOLD = [
  'request.made',
  'request.voted',
  'request.approved',
  'request.denied',
  'request.expired',
  'request.withdrawn',
  'request.used',
  'request.revoked',
  'request.unknown',
  'request.escalated',
  'request.broke_glass',
  'request.reviewed',
  'request.review_overdue',
  'lock.made',
  'lock.lifted',
  'agent.due',
  'agent.stopped',
  'directory.refused',
] as const
export type Told = (typeof TOLD)[number]

/** A mail address as it may stand in a header: nothing that could begin another header, another address or a comment. */
export const MAIL_ADDRESS = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?$/

/** Each notifier has a queue and a few sockets of its own, so their number bounds both. */
export const MOST_NOTIFIERS = 32
const MOST_RECIPIENTS = 50
const SENDING = { shortestMs: 1_000, longestMs: 30_000 }

const secretName = z.string().min(1).max(128)
const secret = z.strictObject({ secret: secretName.describe('name of a sealed secret in the vault') })
const timeout = z
  .string()
  .default('10s')
  .superRefine((text, context) => {
    try {
      const ms = parseDuration(text)
      if (ms < SENDING.shortestMs || ms > SENDING.longestMs) context.addIssue({ code: 'custom', message: 'write a time between 1s and 30s' })
    } catch (error) {
      const { message, fix } = error as ChaperoneError
      context.addIssue({ code: 'custom', message: [message, fix].filter(Boolean).join(' ') })
    }
  })
  .describe('for the whole of one attempt, between 1s and 30s')
const ca = z.string().optional().describe('PEM of the authority that signed the certificate of the receiver, believed beside the public ones')
const insecure = z.literal(true).optional().describe('allows plain text to this very machine (127.0.0.1, ::1, localhost), and nowhere else')

const on = z.string().superRefine((text, context) => {
  try {
    if (TOLD.some(compileGlob(text))) return
    context.addIssue({
      code: 'custom',
      message: `nothing is called \`${text.slice(0, 80)}\`. Write some of: ${TOLD.join(', ')}, or patterns of them`,
    })
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as ChaperoneError).message })
  }
})

/** `kind: notifier`: who outside is told of requests and locks. */
export const notifierSpec = z
  .strictObject({
    on: z.array(on).min(1).max(32).describe('what is told: `request.made`, `request.*`, `lock.made`'),
    for: z
      .strictObject({
        approvers: z.array(z.string().min(1).max(63)).min(1).max(32).optional().describe('roles: only what one of them is asked to decide'),
        requester: z.array(z.string().min(1).max(256)).min(1).max(32).optional().describe('names of identities, or globs: only what is about them'),
        labels: z.record(z.string(), z.string()).optional().describe('only what is about a resource with these labels'),
      })
      .default({})
      .describe('what of it; all that is written must hold'),
    detail: z
      .enum(['summary', 'full'])
      .default('summary')
      .describe('`full` also gives what approvers are shown: statements and arguments with their values, known secrets masked'),
    webhook: z
      .strictObject({
        url: z.url({ protocol: /^https?$/ }).max(2048),
        secret: z
          .union([secretName, z.array(secretName).min(1).max(3)])
          .describe('names of sealed secrets that sign, each `whsec_` and 24 to 64 bytes in base64; several while the receiver changes to a new one'),
        ca,
        timeout,
        insecure,
      })
      .optional()
      .describe('signed JSON to an address of yours (Standard Webhooks)'),
    slack: z
      .strictObject({
        url: secret.describe('the incoming webhook: whoever knows its address can write there, so it is sealed'),
        ca,
        timeout,
        insecure,
      })
      .optional()
      .describe('a message in a channel of Slack, or of what understands its incoming webhooks (Mattermost, Rocket.Chat)'),
    mail: z
      .strictObject({
        to: z
          .union([
            z.literal('approvers'),
            z.array(z.string().regex(MAIL_ADDRESS, 'write an address such as ops@example.com')).min(1).max(MOST_RECIPIENTS),
          ])
          .describe('addresses, or `approvers`: those who may decide, by the trait `email` of each'),
        from: z.string().regex(MAIL_ADDRESS, 'write an address such as chaperone@example.com'),
        smtp: z.strictObject({
          host: z.string().regex(/^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)$/, 'write a host without a port'),
          port: z.number().int().min(1).max(65_535).default(587),
          tls: z
            .enum(['starttls', 'required', 'none'])
            .default('starttls')
            .describe('`starttls`: plain at first, refused where TLS cannot follow; `required`: TLS from the first byte (port 465)'),
          user: z.string().min(1).max(256).optional(),
          password: secret.optional(),
          ca,
          timeout,
          insecure,
        }),
      })
      .optional()
      .describe('one message to each person, by SMTP'),
  })
  .superRefine((spec, context) => {
    const ways = (['webhook', 'slack', 'mail'] as const).filter((way) => spec[way] !== undefined)
    if (ways.length !== 1)
      context.addIssue({ code: 'custom', path: ways.length === 0 ? [] : [ways[1]!], message: 'write exactly one of `webhook`, `slack` and `mail`' })
  })

export type NotifierSpec = z.infer<typeof notifierSpec>
