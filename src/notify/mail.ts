import { cleaned, cut, disarmed, escapedHtml } from './plain-text.ts'
import type { Story } from './types.ts'
import { factsOf, titleOf } from './words.ts'

/** One message as it waits in the outbox: to one person, or to several, of whom none sees who else has it. */
export interface Mail {
  readonly to: string | readonly string[]
  /** mailboxes that were refused for good while the others had it */
  readonly refused?: number
  readonly subject: string
  readonly text: string
  readonly html: string
}

const LONGEST_SUBJECT = 150

/** Text, and the same as simple HTML: no pictures, nothing loaded from anywhere, one link. */
export function mailOf(story: Story, to: Mail['to']): Mail {
  const title = disarmed(titleOf(story))
  const facts = factsOf(story).map(({ label, text, free }) => ({ label, text: free ? disarmed(text) : text }))
  const link = story.request?.link
  const footer = 'Sent by Chaperone. Opening the link approves nothing: it asks for your own sign-in.'
  const row = ({ label, text }: { label: string; text: string }) =>
    `<tr><th align="left" valign="top">${escapedHtml(label)}</th><td style="white-space:pre-wrap">${escapedHtml(text)}</td></tr>`
  return {
    to,
    subject: cut(`[Chaperone] ${cleaned(titleOf(story), false)}`, LONGEST_SUBJECT),
    text: [
      title,
      '',
      ...facts.map(({ label, text }) => `${label}: ${text.replaceAll('\n', '\n    ')}`),
      ...(link === undefined ? [] : ['', link]),
      '',
      footer,
      '',
    ].join('\n'),
    html: `<!doctype html><html><body><p>${escapedHtml(title)}</p><table>${facts.map(row).join('')}</table>${
      link === undefined ? '' : `<p><a href="${escapedHtml(link)}">Open the request</a></p>`
    }<p>${footer}</p></body></html>`,
  }
}
