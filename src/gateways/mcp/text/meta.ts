import { edited, membersOf, type Span, spanAt } from './json-text.ts'

/** Keys of `_meta` under this prefix are ours: whoever else writes one wants to look like us. */
export const OUR_META = 'dev.chaperone/'

/** The members of a message's `params._meta`, each as it is written. */
type Members = Map<string, string>

/**
 * The message with another `params._meta`; everything else stays as it was written. A message without `params` or `_meta` gets
 * them when `change` puts something in.
 */
export function withMeta(text: string, change: (members: Members) => void): string {
  const params = spanAt(text, ['params'])
  const meta = spanAt(text, ['params', '_meta'])
  const members: Members = new Map(meta ? [...membersOf(text, meta.start)].map(([key, span]) => [key, text.slice(span.start, span.end)]) : [])
  const before = [...members]
  change(members)
  if (JSON.stringify(before) === JSON.stringify([...members])) return text
  const written = `{${[...members].map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')}}`
  if (meta) return edited(text, [{ ...meta, text: written }])
  const first = (span: Span) => (membersOf(text, span.start).size > 0 ? ',' : '')
  if (params) return edited(text, [insert(params.start + 1, `"_meta":${written}${first(params)}`)])
  const whole = { start: text.indexOf('{'), end: text.length }
  return edited(text, [insert(whole.start + 1, `"params":{"_meta":${written}}${first(whole)}`)])
}

const insert = (at: number, text: string) => ({ start: at, end: at, text })

/** Whether a key is one that only Chaperone writes; a reader that ignores case would take a variant for it. */
export const isOurs = (key: string): boolean => key.toLowerCase().startsWith(OUR_META)

/** The message without keys that look like ours: a client that sends one wants the server to believe that we said it. */
export function withoutSpoofed(text: string): string {
  return withMeta(text, (members) => {
    for (const key of members.keys()) if (isOurs(key)) members.delete(key)
  })
}
