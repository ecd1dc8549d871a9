import type { AuditLog } from '../audit/record.ts'
import type { NotifierSpec, Told } from '../catalog/notifier.ts'
import type { Clock } from '../clock.ts'
import { parseDuration } from '../encoding/duration.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { newId } from '../ids.ts'
import type { Store, Write } from '../store/store.ts'
import { startDeliverer } from './deliverer.ts'
import { type Mail, mailOf } from './mail.ts'
import { type Claimed, countsOf, HOUR_MS, lately, MOST_OF_ONE, makeRoom, NO_ROOM, put, putLost } from './outbox.ts'
import { post } from './post.ts'
import { type Resolve, systemResolve } from './reach.ts'
import { addressOf, approverAddresses, type Deciders } from './recipients.ts'
import { slackBody } from './slack.ts'
import { sendMail } from './smtp.ts'
import { type StoryParts, storyOf } from './story.ts'
import type { AnnounceNotice, Attempt, Channel, Notice, Notifier, NotifierRow, Story } from './types.ts'
import { listens, wanted } from './wanted.ts'
import { signingKey, webhookBody, webhookHeaders } from './webhook.ts'

export interface NotificationParts extends StoryParts, Deciders {
  readonly store: Store
  readonly clock: Clock
  readonly audit: Pick<AuditLog, 'append'>
  /** The applied documents of the kind `notifier`. */
  readonly documents: () => readonly { readonly name: string; readonly spec: unknown }[]
  readonly reveal: (secret: string) => Promise<string>
  readonly failed: (error: unknown) => void
  readonly counted: (result: 'done' | 'failed' | 'given_up' | 'dropped') => void
  /** for tests */
  readonly resolve?: Resolve
  readonly random?: () => number
}

export interface Notifications {
  readonly announce: AnnounceNotice
  readonly list: () => Promise<readonly NotifierRow[]>
  /** Sends one test message now, to the mail address where it is mail. Throws `not_found`, `usage`; else says what came of it. */
  test(name: string, ask: { readonly mailTo?: string }): Promise<Attempt>
  settled(): Promise<void>
  close(): Promise<void>
}

/** What happens about one identity too often to be held back with the rest. */
const LOUD: ReadonlySet<Told> = new Set(['request.broke_glass', 'request.review_overdue', 'lock.made', 'lock.lifted'])

const toldOf = (notice: Notice): Told => {
  if ('request' in notice) return `request.${notice.type}`
  if ('directory' in notice) return `directory.${notice.type}`
  return 'lock' in notice ? `lock.${notice.type}` : `agent.${notice.type}`
}

export function openNotifications(parts: NotificationParts): Notifications {
  const { store, clock, audit, counted } = parts
  const resolve = parts.resolve ?? systemResolve
  const notifiers = () => parts.documents().map(({ name, spec }) => notifierOf(name, spec as NotifierSpec))

  const deliverer = startDeliverer({
    store,
    clock,
    notifiers,
    send: attempt,
    async givenUp({ name }, { id, event, attempts }, error) {
      await audit.append({ type: 'notification.given_up', data: { notifier: name, delivery: id, event, attempts, error } })
    },
    async lost(name, count) {
      await audit.append({ type: 'notification.given_up', data: { notifier: name, lost: count, error: NO_ROOM } })
    },
    counted,
    failed: parts.failed,
    random: parts.random ?? Math.random,
  })

  async function attempt(notifier: Notifier, delivery: Claimed, stop: AbortSignal): Promise<Attempt> {
    if (delivery.way !== notifier.way) return { ok: false, error: `the notifier is a ${notifier.way} now`, final: true }
    const { spec } = notifier
    const time = new AbortController()
    const ms = parseDuration((spec.webhook ?? spec.slack ?? spec.mail?.smtp)!.timeout)
    const late = clock.at(clock.now() + ms, () => time.abort(new ChaperoneError('upstream_timeout', `no answer within ${ms / 1000} s`)))
    const signal = AbortSignal.any([stop, time.signal])
    try {
      // Whoever does not heed the signal (a name that is looked up) is not waited for.
      return await Promise.race([send(notifier, delivery, signal), aborted(signal)])
    } catch (error) {
      return { ok: false, error: sayable(error) }
    } finally {
      late()
    }
  }

  async function send({ spec }: Notifier, { id, payload }: Pick<Claimed, 'id' | 'payload'>, signal: AbortSignal): Promise<Attempt> {
    if (spec.webhook) {
      const { url, secret, ca, insecure } = spec.webhook
      const keys = (await Promise.all([secret].flat().map(parts.reveal))).map(signingKey)
      const headers = webhookHeaders(id, Math.floor(clock.now() / 1000), payload, keys)
      return post({ url, headers, body: payload, ca, insecure, resolve, signal })
    }
    if (spec.slack) {
      const { url, ca, insecure } = spec.slack
      return post({ url: (await parts.reveal(url.secret)).trim(), headers: {}, body: payload, ca, insecure, resolve, signal })
    }
    const { from, smtp } = spec.mail!
    const password = smtp.password === undefined ? undefined : await parts.reveal(smtp.password.secret)
    return sendMail({ mail: JSON.parse(payload) as Mail, from, smtp, password, id, at: clock.now(), resolve, signal })
  }

  async function payloadsOf(trx: Write, { way, spec }: Notifier, story: Story, notice: Notice): Promise<readonly string[]> {
    if (way === 'webhook') return [webhookBody(story)]
    if (way === 'slack') return [slackBody(story)]
    const { to } = spec.mail!
    const addresses = to === 'approvers' ? await decidersOf(trx, notice) : to
    // One row, however many they are: fifty approvers of one question must not take fifty places in the queue.
    const [first, ...others] = addresses
    return first === undefined ? [] : [JSON.stringify(mailOf(story, others.length === 0 ? first : addresses))]
  }

  /** An agent is its owner's to decide about. */
  async function decidersOf(trx: Write, notice: Notice): Promise<readonly string[]> {
    if ('request' in notice) return approverAddresses(trx, notice.request, parts)
    return 'agent' in notice && notice.agent.ownerId !== undefined ? addressOf(trx, notice.agent.ownerId) : []
  }

  /** Whether a further one may be written down; `until` when it is the last for a while. */
  async function admitted(trx: Write, name: string, event: Told, source: string | undefined, size: number, now: number) {
    const held = source === undefined || LOUD.has(event) ? undefined : await lately(trx, name, source, now)
    const most = MOST_OF_ONE * size
    // First this: what is held back for the noise that it makes pushes nothing out.
    if (held && held.count >= most) return { ok: false, why: 'held back' } as const
    const room = await makeRoom(trx, name, event, size, now)
    for (let i = 0; i < room.lost; i++) counted('dropped')
    if (!room.ok) return { ok: false, why: NO_ROOM } as const
    if (!held) return { ok: true } as const
    const { count, first } = held
    return { ok: true, ...(count + size >= most ? { until: first + HOUR_MS } : {}) } as const
  }

  async function write(trx: Write, notice: Notice): Promise<void> {
    const on: Told = toldOf(notice)
    const all = notifiers().filter(({ spec }) => listens(spec, on))
    if (all.length === 0) return
    const now = clock.now()
    const { summary, full, source, about } = await storyOf(trx, notice, now, parts)
    for (const notifier of all) {
      if (!wanted(notifier.spec, about)) continue
      const { name, way, spec } = notifier
      const story = spec.detail === 'full' ? await full() : summary
      const row = { notifier: name, way, event: about.on, source }
      const payloads = await payloadsOf(trx, notifier, story, notice)
      // Of a lock nobody decides, and an owner may have no address; whoever wants to hear of one by mail names addresses.
      if (payloads.length === 0 && !('request' in notice)) continue
      const { ok, until, why } = {
        until: undefined,
        why: undefined,
        ...(await admitted(trx, name, about.on, source, Math.max(payloads.length, 1), now)),
      }
      if (!ok) {
        counted('dropped')
        if (why === NO_ROOM) await putLost(trx, row, NO_ROOM, now)
        continue
      }
      if (payloads.length === 0) {
        await putLost(trx, row, 'nobody of those who may decide has a mail address (trait `email`)', now)
        continue
      }
      const told = until === undefined ? payloads : await payloadsOf(trx, notifier, { ...story, heldBackUntil: until }, notice)
      await put(trx, { ...row, payloads: told }, now)
    }
  }

  return {
    async announce(trx, notice) {
      try {
        await write(trx, notice)
      } catch (error) {
        // A fault of ours keeps no request from being made. (After a failed statement the store keeps nothing of the
        // transaction, whatever is caught here.)
        parts.failed(error)
      }
      deliverer.wake()
    },

    async list() {
      const counts = await countsOf(store)
      return notifiers().map(({ name, way, spec }) => ({ name, way, on: spec.on, ...(counts.get(name) ?? { waiting: 0, done: 0, givenUp: 0 }) }))
    },

    async test(name, { mailTo }) {
      const notifier = notifiers().find((one) => one.name === name)
      if (!notifier) throw new ChaperoneError('not_found', `There is no notifier ${name}.`, { fix: 'See `chaperone notifiers ls`.' })
      const now = clock.now()
      const story: Story = { on: 'notifier.test', at: now }
      const to = mailTo ?? (notifier.spec.mail?.to === 'approvers' ? undefined : notifier.spec.mail?.to[0])
      if (notifier.way === 'mail' && to === undefined)
        throw new ChaperoneError('usage', 'This notifier writes to approvers, and you have no trait `email`.', {
          fix: 'Give yourself one in your user document.',
        })
      const payload =
        notifier.way === 'webhook' ? webhookBody(story) : notifier.way === 'slack' ? slackBody(story) : JSON.stringify(mailOf(story, to!))
      const row = { id: newId('dlv', now), notifier: name, way: notifier.way, event: story.on, payload, attempts: 1, created_at: now }
      return attempt(notifier, row, new AbortController().signal)
    },

    settled: deliverer.settled,
    close: deliverer.close,
  }
}

function notifierOf(name: string, spec: NotifierSpec): Notifier {
  const way: Channel = spec.webhook ? 'webhook' : spec.slack ? 'slack' : 'mail'
  return { name, way, spec }
}

const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason as Error)
    else signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
  })

/** A missing or unfit secret is a sentence of ours; anything unexpected is not shown. */
function sayable(error: unknown): string {
  const known = toChaperoneError(error)
  return known.code === 'internal' ? 'a fault of Chaperone itself' : known.message
}
