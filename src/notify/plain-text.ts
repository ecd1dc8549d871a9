/** Cuts visibly, never half a character. */
export function cut(text: string, most: number): string {
  if (text.length <= most) return text
  const whole = text.slice(0, most - 1)
  return `${/[\ud800-\udbff]$/.test(whole) ? whole.slice(0, -1) : whole}…`
}

/**
 * Text from others: no control characters, nothing invisible, nothing that turns the reading direction around
 * (CVE-2021-42574): what a person reads is what stands there. Line ends stay unless `lines` is false.
 */
export function cleaned(text: string, lines = true): string {
  const shown = text
    .toWellFormed()
    .replace(/\r\n?|[\u2028\u2029\u0085]/g, '\n')
    .replace(/[\u200b-\u200f\u061c\u202a-\u202e\u2060-\u206f\ufeff\u00ad\u180e\u{e0000}-\u{e007f}]/gu, '')
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, ' ')
    .replaceAll('\t', ' ')
  return lines ? shown.replace(/\n{3,}/g, '\n\n').trim() : shown.replace(/\s+/g, ' ').trim()
}

/** Between characters it keeps programs from reading them as one word; people do not see it. */
const SPLIT = '\u200b'

/**
 * An agent writes its reason, and a web page may have told it what to write: what chat and mail programs would turn into a
 * link to click or a mention of everybody stays text.
 */
export const disarmed = (text: string): string =>
  text
    .replaceAll('@', `@${SPLIT}`)
    .replaceAll('://', `:${SPLIT}//`)
    .replaceAll('](', `]${SPLIT}(`)
    // Without a scheme these become links too. Not every dot: `public.customers` must stay what it is when it is copied.
    .replace(/\bwww\./gi, `www${SPLIT}.`)
    .replace(/\.(?=\p{L}{2,}\/)/gu, `.${SPLIT}`)

export const escapedHtml = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[character]!)
