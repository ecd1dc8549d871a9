import { seenWhole } from '../encoding/unseen.ts'

/** How much it should hold somebody up: `danger` is hardly ever meant well, `warning` wants a look, `note` is worth knowing. */
export type Severity = 'danger' | 'warning' | 'note'

/** Everything that can be odd about an MCP server or what it offers. The table is what the guide and the tests go by. */
export const FLAGS = {
  hidden_characters: ['danger', 'Characters that a person does not see, but a model reads.'],
  bidi_control: ['danger', 'Characters that turn the reading direction around: it does not say what it shows.'],
  control_characters: ['danger', 'Control characters, such as the escape sequences of a terminal.'],
  out_of_sight: ['danger', 'Text behind so much white space that nobody scrolls to it.'],
  mixed_scripts: ['danger', 'Letters of several alphabets in one name: one of them only looks like another.'],
  hidden_markup: ['danger', 'Markup that a page would not show: a comment, or an element made invisible.'],
  active_markup: ['warning', 'Markup that does something where it is shown.'],
  leaky_link: ['danger', 'An image or a link that takes data out as soon as it is shown.'],
  addresses_model: ['danger', 'It gives orders to the model instead of saying what the tool does.'],
  role_marker: ['danger', 'A marker that ends a message and begins another in the eyes of a model.'],
  reads_credentials: ['danger', 'It names files that hold keys or passwords.'],
  mentions_configuration: ['warning', 'It names files that often hold secrets.'],
  reads_environment: ['warning', 'It gives out the environment of the server, which often holds secrets.'],
  wants_conversation: ['warning', 'It wants the conversation or the instructions of the model as an argument.'],
  names_other_tool: ['warning', 'It names a tool of another server.'],
  encoded_text: ['warning', 'A long run of encoded text, which nobody can read.'],
  payload_default: ['danger', 'A value that is filled in by itself and looks like an attack.'],
  url_default: ['note', 'A value that is filled in by itself and leads to another machine.'],
  very_long: ['warning', 'So long that nobody reads it to the end.'],
  network_reference: ['danger', 'The schema points to another document, which can change without being seen. It is not fetched.'],
  header_rule: ['danger', 'A broken x-mcp-header: clients that keep to the standard drop the tool.'],
  header_secret: ['danger', 'A secret would travel in a header that everybody on the way may log.'],
  odd_name: ['warning', 'A name outside of letters, digits, `_`, `-` and `.`, or over 128 characters.'],
  name_collision: ['danger', 'Two names that a person or a program can take for each other.'],
  contradiction: ['warning', 'The name says one thing, and what the server says of the tool another.'],
  secret_in_command: ['danger', 'A secret in the command: it stands in the document, in the list of processes and in records.'],
  secret_in_environment: ['danger', 'A secret written into the document.'],
  secret_in_header: ['danger', 'A secret written into the document.'],
  secret_in_url: ['danger', 'A secret in the address: it stands in the document and in logs.'],
  shell_command: ['warning', 'It is started by a shell: what runs is what the shell makes of it.'],
  unpinned_package: ['note', 'The newest version of the package runs, whatever is in it by then.'],
  no_isolation: ['warning', 'The program runs as Chaperone itself and can read all that Chaperone can.'],
  url_not_https: ['warning', 'Everybody on the way can read and change what is sent.'],
  url_private: ['warning', 'The address is not a public one.'],
  url_user: ['danger', 'The address has a user or a password in it.'],
} as const satisfies Record<string, readonly [Severity, string]>

export type FlagCode = keyof typeof FLAGS

/** One thing that a person should look at before saying yes. Never a proof, in either direction. */
export interface Flag {
  readonly code: FlagCode
  readonly severity: Severity
  /** `description`, `inputSchema.properties.path.default`, `command[2]` */
  readonly where: string
  /** The place itself, with all that hides made visible; at most 160 characters. Never a secret. */
  readonly excerpt: string
}

/** What nobody has seen twice is odd once: a definition with a thousand oddities is as clear with fifty. */
export const MOST_FLAGS = 50

export const flag = (code: FlagCode, where: string, excerpt: string, severity: Severity = FLAGS[code][0]): Flag => ({
  code,
  severity,
  where,
  excerpt: visible(excerpt),
})

const LONGEST_EXCERPT = 160

/** The text on one line with everything in it that hides shown as an escape; cut to the length of an excerpt. */
export function visible(text: string, longest = LONGEST_EXCERPT): string {
  let out = ''
  for (const letter of text) {
    const next = letter === '\n' ? '\\n' : letter === '\t' ? '\\t' : seenWhole(letter)
    if (out.length + next.length > longest) return `${out.trimEnd()}…`
    out += next
  }
  return out
}

/** What stands around a place of a text. */
export function around(text: string, at: number, length = 1): string {
  const from = Math.max(0, at - 30)
  return `${from > 0 ? '…' : ''}${text.slice(from, at + Math.min(length, 90) + 30)}`
}
