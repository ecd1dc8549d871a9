import type { Verb } from '../access/administration.ts'
import { MOST_NOTIFIERS, type NotifierSpec } from '../catalog/notifier.ts'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { reachOfHost } from '../vault/addresses.ts'
import { roleFaults } from './references.ts'
import type { Fault, Path, PlainDocument } from './types.ts'
import type { World } from './world.ts'

/** What a schema cannot say of a notifier. */
export function notifierFaults({ webhook, slack, mail }: NotifierSpec): readonly Fault[] {
  if (webhook) return urlFaults(webhook.url, webhook.insecure, ['webhook'])
  // The address of a chat channel is sealed: it is looked at each time it is used.
  if (slack) return []
  return mail ? smtpFaults(mail.smtp) : []
}

function urlFaults(written: string, insecure: boolean | undefined, path: Path): readonly Fault[] {
  const url = new URL(written)
  const at = [...path, 'url']
  const reach = reachOfHost(url.hostname)
  if (url.username !== '' || url.password !== '')
    return [
      {
        path: at,
        message: 'A password stands in the address, where everybody who sees the document reads it.',
        fix: 'Leave it out: what is sent is signed.',
      },
    ]
  if (url.hash !== '') return [{ path: at, message: 'What stands behind `#` is never sent.', fix: 'Leave it out.' }]
  if (reach === 'never') return [neverFault(at)]
  if (url.protocol === 'https:') return insecure ? [idleFault(path)] : []
  if (reach !== 'loopback') return [{ path: at, message: 'Without TLS nothing leaves this machine.', fix: 'Write https://.' }]
  return insecure ? [] : [plainFault(at)]
}

function smtpFaults({ host, tls, user, password, insecure }: NonNullable<NotifierSpec['mail']>['smtp']): readonly Fault[] {
  const path = ['mail', 'smtp']
  const reach = reachOfHost(host)
  if ((user === undefined) !== (password === undefined))
    return [{ path, message: 'A login has both `user` and `password`.', fix: 'Write both, or neither.' }]
  if (reach === 'never') return [neverFault([...path, 'host'])]
  if (tls !== 'none') return insecure ? [idleFault(path)] : []
  if (reach !== 'loopback')
    return [
      { path: [...path, 'tls'], message: 'Without TLS nothing leaves this machine.', fix: 'Write tls: starttls, or tls: required for port 465.' },
    ]
  if (password !== undefined)
    return [{ path: [...path, 'password'], message: 'No password is sent without TLS.', fix: 'Leave user and password out.' }]
  return insecure ? [] : [plainFault([...path, 'tls'])]
}

const neverFault = (path: Path): Fault => ({
  path,
  message: 'This address is link-local, the metadata service of a cloud, or no receiver at all.',
  fix: 'Write the name of the receiver.',
})
const plainFault = (path: Path): Fault => ({
  path,
  message: 'This is not encrypted.',
  fix: 'Add `insecure: true` where only this machine is behind it, or use TLS.',
})
const idleFault = (path: Path): Fault => ({
  path: [...path, 'insecure'],
  message: '`insecure` does nothing here: this is encrypted.',
  fix: 'Leave it out.',
})

/** What does not fit to the other documents, and secrets that are yet to be set. */
export function* notifierInWorld({ name, spec }: PlainDocument, world: World): Generator<Fault> {
  const all = world.ofKind('notifier')
  if (
    all.length > MOST_NOTIFIERS &&
    all
      .map((one) => one.name)
      .sort()
      .indexOf(name) >= MOST_NOTIFIERS
  )
    yield { path: ['name'], message: `There are ${all.length} notifiers, and ${MOST_NOTIFIERS} at the most.`, fix: 'Let one receiver tell others.' }
  const { on, for: only, mail, ...ways } = spec as unknown as NotifierSpec
  yield* roleFaults(only.approvers, ['spec', 'for', 'approvers'], world)
  for (const [secret, path] of secretsOf({ ...ways, mail })) {
    if (world.secrets.has(secret)) continue
    yield {
      path: ['spec', ...path],
      level: 'warning',
      message: `There is no secret \`${secret}\` yet; nothing can be sent without it.`,
      fix: `Set it: chaperone secret set ${secret}`,
    }
  }
  const lock = on.findIndex((pattern) => pattern.startsWith('lock.'))
  if (mail?.to === 'approvers' && lock !== -1)
    yield {
      path: ['spec', 'on', lock],
      level: 'warning',
      message: 'Nobody approves a lock, so nobody is written to of one.',
      fix: 'Name addresses in a notifier of its own.',
    }
}

function secretsOf({ webhook, slack, mail }: Pick<NotifierSpec, 'webhook' | 'slack' | 'mail'>): readonly (readonly [string, Path])[] {
  if (webhook)
    return Array.isArray(webhook.secret)
      ? webhook.secret.map((name, i) => [name, ['webhook', 'secret', i]] as const)
      : [[webhook.secret as string, ['webhook', 'secret']]]
  if (slack) return [[slack.url.secret, ['slack', 'url']]]
  return mail?.smtp.password === undefined ? [] : [[mail.smtp.password.secret, ['mail', 'smtp', 'password']]]
}

interface Needed {
  readonly path: Path
  readonly verb: Verb
  readonly what: string
}

/** What whoever writes a notifier must hold beside `apply`. */
export function notifierNeeds(old: PlainDocument | undefined, next: PlainDocument): readonly Needed[] {
  if (canonicalJson(old?.spec ?? {}) === canonicalJson(next.spec)) return []
  const spec = next.spec as unknown as NotifierSpec
  const [secret] = secretsOf(spec)
  return [
    // The vault shows its secrets to nobody; who decides where one is sent could read it there.
    ...(secret ? [{ path: ['spec', ...secret[1]], verb: 'secrets' as const, what: 'Where a secret is sent is a matter of' }] : []),
    // Statements and arguments of everybody, with their values, as the record has them.
    ...(spec.detail === 'full'
      ? [{ path: ['spec', 'detail'], verb: 'audit.read' as const, what: 'What others ask for, in full, is a matter of' }]
      : []),
  ]
}
