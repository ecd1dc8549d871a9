import { invalid } from './errors.ts'

/** `attribute eq value`; several of them must all hold. What directories ask before they write is no more than that. */
export interface Comparison {
  /** in lower case, without the name of its schema */
  readonly attribute: string
  readonly value: string | boolean
}

const LONGEST = 1024
const MOST = 8
const ONE = /^([A-Za-z$][\w$:.-]*)(?:\[([A-Za-z]+)\s+eq\s+("(?:[^"\\]|\\.)*")\](?:\.([A-Za-z]+))?)?\s*(?:eq\s+("(?:[^"\\]|\\.)*"|true|false))?/i

/** RFC 7644 section 3.4.2.2, of it `eq` and `and`. Throws `invalidFilter`. */
export function parseFilter(text: string): readonly Comparison[] {
  if (text.length > LONGEST) throw invalid('The filter is too long.', 'invalidFilter')
  const found: Comparison[] = []
  let rest = text.trim()
  while (true) {
    const match = ONE.exec(rest)
    const [whole = '', name = '', inner, innerValue, sub, value] = match ?? []
    // `members[value eq "..."]`, as Entra asks whether somebody is in a group.
    const literal = value ?? innerValue
    // And `emails[type eq "work"].value eq "..."`, as it looks for a person by an address: ours has one that counts.
    if (!match || literal === undefined || (inner !== undefined && (value === undefined) !== (sub === undefined)))
      throw invalid('Only `eq`, and `and` between, are understood.', 'invalidFilter')
    const attribute = inner === undefined ? name : `${name}.${sub ?? inner}`
    found.push({ attribute: bare(attribute).toLowerCase(), value: literalOf(literal) })
    if (found.length > MOST) throw invalid('The filter is too long.', 'invalidFilter')
    rest = rest.slice(whole.length).trim()
    if (rest === '') return found
    const and = /^and\s+/i.exec(rest)
    if (!and) throw invalid('Only `eq`, and `and` between, are understood.', 'invalidFilter')
    rest = rest.slice(and[0].length)
  }
}

const bare = (name: string) => name.replace(/^urn:ietf:params:scim:schemas:core:2\.0:(?:User|Group):/i, '')

function literalOf(text: string): string | boolean {
  if (/^(?:true|false)$/i.test(text)) return text.toLowerCase() === 'true'
  try {
    return JSON.parse(text) as string
  } catch {
    throw invalid('A value of the filter cannot be read.', 'invalidFilter')
  }
}
