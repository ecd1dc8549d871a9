import { skeleton } from './flag-names.ts'
import { around, type Flag, type FlagCode, flag } from './flag-types.ts'

/** Longer texts are looked at to here; that they are so long is a flag of its own. */
const LONGEST_LOOKED_AT = 64 * 1024

/** Emoji and the scripts that need joiners use some of the characters that otherwise only hide something. */
const JOINED =
  /\p{Script=Arabic}|\p{Script=Devanagari}|\p{Script=Bengali}|\p{Script=Gujarati}|\p{Script=Gurmukhi}|\p{Script=Kannada}|\p{Script=Malayalam}|\p{Script=Oriya}|\p{Script=Sinhala}|\p{Script=Tamil}|\p{Script=Telugu}|\p{Script=Khmer}|\p{Script=Mongolian}|\p{Script=Syriac}/u
const PICTURE = /\p{Extended_Pictographic}|\p{Emoji_Modifier}|\ufe0f/u

const BIDI = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/
const IGNORABLE = /\p{Default_Ignorable_Code_Point}|[\ufff9-\ufffb\ud800-\udfff]/u
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u2028\u2029]/

/** Flags of one text, wherever it stands. Linear in its length. */
export function flagsOfText(text: string, where: string): readonly Flag[] {
  const looked = text.slice(0, LONGEST_LOOKED_AT)
  const found = [...unseen(looked, where), ...spaces(looked, where)]
  const plain = readAsModelsDo(looked)
  const once = new Set<FlagCode>(found.map(({ code }) => code))
  for (const { code, pattern, unless } of PATTERNS) {
    if (once.has(code)) continue
    const match = pattern.exec(plain)
    if (!match || unless?.test(match[0])) continue
    once.add(code)
    found.push(flag(code, where, around(plain, match.index, match[0].length)))
  }
  return found
}

/** One flag of each kind with the first place of it; what was hidden with tag characters is shown as what it says. */
function* unseen(text: string, where: string): Generator<Flag> {
  let hidden = -1
  let bidi = -1
  let control = -1
  let tags = ''
  const letters = [...text]
  for (let i = 0, at = 0; i < letters.length; at += letters[i]!.length, i++) {
    const letter = letters[i]!
    const code = letter.codePointAt(0)!
    if (code >= 0xe0000 && code <= 0xe007f) {
      if (isFlagOfACountry(letters, i)) continue
      if (hidden < 0) hidden = at
      if (code >= 0xe0020 && code < 0xe007f && tags.length < 60) tags += String.fromCharCode(code - 0xe0000)
    } else if (BIDI.test(letter)) {
      if (bidi < 0) bidi = at
    } else if (isHidden(letter, code, letters, i)) {
      if (hidden < 0) hidden = at
    } else if (CONTROL.test(letter) && control < 0) control = at
  }
  if (hidden >= 0) yield flag('hidden_characters', where, tags === '' ? around(text, hidden) : `it says, hidden: ${tags}`)
  if (bidi >= 0) yield flag('bidi_control', where, around(text, bidi))
  if (control >= 0) yield flag('control_characters', where, around(text, control))
}

function isHidden(letter: string, code: number, letters: readonly string[], i: number): boolean {
  const [before = ' ', after = ' '] = [letters[i - 1], letters[i + 1]]
  if (code === 0x200c || code === 0x200d)
    return !((JOINED.test(before) && JOINED.test(after)) || (code === 0x200d && PICTURE.test(before) && PICTURE.test(after)))
  // A run of variation selectors carries bytes (one selector, one byte); one after a picture or sign only chooses its look.
  if (code >= 0xfe00 && code <= 0xfe0f) return /\s/.test(before) || IGNORABLE.test(before)
  if (code >= 0xe0100 && code <= 0xe01ef) return !/\p{Script=Han}/u.test(before)
  return IGNORABLE.test(letter)
}

/** The flags of England, Scotland and Wales are a black flag, some tag letters and a cancel tag. */
function isFlagOfACountry(letters: readonly string[], i: number): boolean {
  let start = i
  while (start > 0 && i - start < 8 && isTag(letters[start]!)) start--
  if (letters[start] !== '\u{1f3f4}') return false
  let end = i
  while (end < letters.length && end - start < 9 && isTag(letters[end]!)) end++
  return letters[end - 1] === '\u{e007f}' && end - start <= 8
}
const isTag = (letter: string) => {
  const code = letter.codePointAt(0)!
  return code >= 0xe0020 && code <= 0xe007f
}

/** In the approval dialog of an agent the data stood far to the right (WhatsApp MCP, April 2025). */
function* spaces(text: string, where: string): Generator<Flag> {
  for (const { 0: run, index } of text.matchAll(/\s{20,}/g)) {
    const end = index + run.length
    const lines = run.split('\n').length - 1
    if (end === text.length || (lines < 20 && !/[^\S\n]{60}/.test(run))) continue
    yield flag('out_of_sight', where, `${run.length} white characters, then: ${text.slice(end)}`)
    return
  }
}

/** As a model takes it in: compatibility forms and look-alikes as plain letters, nothing hidden between them, one space. */
const readAsModelsDo = (text: string): string => skeleton(text.replace(/\p{Default_Ignorable_Code_Point}/gu, '')).replace(/[^\S\n]+/g, ' ')

interface Pattern {
  readonly code: FlagCode
  /** over text in lower case; every repetition in it is bounded */
  readonly pattern: RegExp
  readonly unless?: RegExp
}

/**
 * What tool poisoning looked like so far (threats.md, incidents 4, 5, 15; OWASP MCP03). Nobody who knows this list is stopped by
 * it: it helps a person to look, pins and roles hold.
 */
const PATTERNS: readonly Pattern[] = [
  {
    code: 'hidden_markup',
    pattern: /<!--|\[\/\/\]: ?#|<[a-z]{1,12} [^>]{0,200}(?:display ?: ?none|visibility ?: ?hidden|font-size ?: ?0|opacity ?: ?0(?![.\d])|\shidden\b)/,
  },
  { code: 'active_markup', pattern: /<(?:script|iframe|object|embed|svg|style|form|img|meta|base)\b[^>]{0,200}(?:>|=)|javascript:|data:text\/html/ },
  { code: 'leaky_link', pattern: /!\[[^\]\n]{0,200}\](?:\(|\[)|\]\(\s?https?:\/\/[^)\s]{0,200}[?&#/=](?:[a-z_]{0,30}=)?(?:\{|\$|<|%7b|\[)/ },
  {
    code: 'addresses_model',
    pattern:
      /\b(?:ignore|disregard|forget|override|bypass)\b[^.\n]{0,40}\b(?:previous|prior|above|earlier|preceding|all other|system|your|any other)\b[^.\n]{0,30}\b(?:instruction|prompt|rule|message|direction|guideline|constraint|polic|context)/,
  },
  {
    code: 'addresses_model',
    pattern:
      /\b(?:do not|don't|dont|never|must not|without|avoid)\b[^.\n]{0,24}\b(?:tell|telling|inform|informing|mention|mentioning|reveal|revealing|notify|notifying|alert|alerting|disclose|disclosing|let)\b[^.\n]{0,40}\b(?:user|human|person|anyone|anybody|operator|customer)\b/,
  },
  {
    code: 'addresses_model',
    pattern:
      /\b(?:do not|don't|never)\b[^.\n]{0,12}\b(?:tell|mention|reveal|disclose)\b[^.\n]{0,20}\b(?:this|that|it)\b[^.\n]{0,12}\bto (?:the )?(?:user|human|anyone)/,
  },
  {
    code: 'addresses_model',
    pattern:
      /\b(?:before|prior to|whenever|every time|each time|when)\b[^.\n]{0,20}\b(?:using|calling|invoking|running|use|call|invoke)\b[^.\n]{0,10}\b(?:any|every|all|another|each)\b(?: other)?[^.\n]{0,20}\btools?\b/,
  },
  {
    code: 'addresses_model',
    pattern: /<\s?\/?\s?(?:important|system|secret|instructions?|assistant|admin|critical|hidden|urgent|override|priority)\s?\/?>/,
  },
  {
    code: 'addresses_model',
    pattern:
      /\b(?:you|the (?:assistant|model|agent|ai|llm))\b[^.\n]{0,20}\b(?:must|shall|have to|need to|are required to|always)\b[^.\n]{0,60}\b(?:read|send|include|pass|attach|append|copy|forward|upload|email)\b[^.\n]{0,60}\b(?:contents? of|conversation|history|system prompt|credentials?|api keys?|tokens?|passwords?|secrets?|private key|environment variables?)/,
  },
  {
    code: 'addresses_model',
    pattern:
      /\byou are (?:now )?(?:a|an|in) [^.\n]{0,40}\b(?:mode|assistant|agent|administrator|developer mode|jailbroken)\b|\bact as (?:a|an|the) [^.\n]{0,30}\b(?:administrator|root|system)\b/,
  },
  {
    code: 'role_marker',
    pattern:
      /<\|(?:im_start|im_end|system|user|assistant|endoftext|start_header_id|eot_id)\b|\[\/?inst\]|<<\/?sys>>|(?:^|\n)#{2,4} ?(?:system|instruction|assistant|human)s? ?:|\n\n(?:human|assistant|system): /,
  },
  {
    code: 'reads_credentials',
    pattern:
      /(?:~|\$home|\$\{home\}|%userprofile%|\/root|\/home\/[^/\s]{1,40}|\/users\/[^/\s]{1,40})[/\\]\.(?:ssh|aws|gnupg|kube|docker|azure|netrc|npmrc|pypirc|pgpass|git-credentials|config[/\\](?:gcloud|gh)|claude|cursor|codex|gemini|bash_history|zsh_history|chaperone)\b|\bid_(?:rsa|ed25519|ecdsa)\b|\/etc\/shadow\b|\/proc\/(?:self|\d{1,7})\/environ\b|\.aws[/\\]credentials/,
  },
  {
    code: 'mentions_configuration',
    pattern:
      /(?:^|[\s"'`(/\\])(?:\.env(?:\.[a-z]{1,12})?|\.?mcp\.json|claude_desktop_config\.json|\.npmrc|\.netrc|\.git-credentials)(?=$|[\s"'`),.;:])|\/etc\/passwd\b/,
  },
  {
    code: 'reads_environment',
    pattern:
      /\b(?:returns?|reads?|lists?|dumps?|prints?|shows?|gets?|outputs?) (?:all |the |all the |its )?(?:current |process )?environment variables?\b/,
  },
  {
    code: 'wants_conversation',
    pattern:
      /\b(?:full|entire|whole|complete|all|previous|your|current)\b[^.\n]{0,20}\b(?:conversation|chat|message) ?(?:history|so far|log|transcript)|\byour (?:system prompt|hidden instructions|chain of thought)\b|\bthe system prompt\b/,
  },
  { code: 'names_other_tool', pattern: /\bmcp__[a-z0-9_-]{2,60}/ },
  { code: 'encoded_text', pattern: /(?:[a-z0-9+/_-]{4}){40,}={0,2}/, unless: /^[a-z_/-]+$|^(.)\1+$/ },
]
