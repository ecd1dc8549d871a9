import { visible } from './visible.ts'

/** Text that is HTML: made only by `html`, so that a string from anywhere is never taken for one. */
export class Html {
  readonly #text: string
  private constructor(text: string) {
    this.#text = text
  }
  static of(parts: readonly string[], values: readonly Value[]): Html {
    return new Html(parts.map((part, i) => part + (i < values.length ? write(values[i]) : '')).join(''))
  }
  toString(): string {
    return this.#text
  }
}

export type Value = Html | string | number | false | undefined | readonly Value[]

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

function write(value: Value): string {
  if (value === undefined || value === false) return ''
  if (value instanceof Html) return value.toString()
  if (Array.isArray(value)) return value.map(write).join('')
  // Also invisible characters are escaped here, once for all pages, so that none forgets it.
  return visible(String(value)).replace(/[&<>"']/g, (letter) => ESCAPES[letter]!)
}

/**
 * A piece of a page. Whatever stands in `${}` is escaped, unless it was made by this same function. It is escaped for text and for
 * attributes in double quotes; there is no way to put a value anywhere else (a test reads the templates).
 */
export function html(parts: TemplateStringsArray, ...values: readonly Value[]): Html {
  return Html.of(parts, values)
}
