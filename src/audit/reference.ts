import { RECORD_TYPES } from './record.ts'

/** What each field of a leaf means; `satisfies` keeps it whole when the envelope grows. */
const FIELDS = {
  v: 'Version of this schema: 1. A reader refuses a version that it does not know.',
  id: 'Id of the record. Of an intent it is the id of the decision, which the client was told as well.',
  type: 'What happened; see below.',
  at: 'When, ms since 1970, by the clock of the node.',
  node: 'Id of the node that wrote it.',
  seq: 'Number of the record on that node, from 1, without gaps.',
  actor: 'Who acted: `{id, name, kind}`. The id never changes; the name is the one it had then.',
  chain: 'The delegation chain, first on whose behalf, last who acted: `[{id, name, kind, delegation}]`.',
  session: 'The session it happened in.',
  connection: 'The connection it came over.',
  credential: 'The credential that was shown.',
  issuer: 'The operator who issued the credential, when one did.',
  purpose: 'What the session is for, as whoever began it said.',
  trace: 'W3C trace id that the request belongs to, as its caller claims.',
  action:
    'What was asked: `{kind, operation, effects, summary, via, resource: {id, name, kind}, definition, facts, unclear}`; `definition` is the SHA-256 of the tool definition that was approved, `facts` what the rules read of it (below), `unclear` why no rule may allow it.',
  decision:
    'What was decided and by which rule: `{verdict, reason, rule: {document, kind, section, index, digest}, link, obligations, grant, shadow}`; `grant` is the request by which a role was given for a while, `shadow` what a rule in shadow mode would have made of it.',
  permit: 'Of an outcome: id of the intent that it belongs to.',
  outcome: 'What came of it: `{status: ok | failed | refused | unknown, ...}`.',
  request: "The request for a human's yes: the one that was made of the action, or whose approval it used up.",
  resource: 'What a record without an action is about: `{id, name, kind}`.',
  data: 'What else a type carries. Small, without secrets.',
  bodies: 'What lies beside the leaf: `[{name, size, commitment, cut, masked}]`.',
} as const satisfies Record<keyof import('./record.ts').Envelope, string>

const table = (head: readonly [string, string], rows: readonly (readonly [string, string])[]) =>
  [`| ${head.join(' | ')} |`, '|---|---|', ...rows.map(([name, meaning]) => `| \`${name}\` | ${meaning.replaceAll('|', '\\|')} |`)].join('\n')

/** What the records of one protocol say beyond the envelope: field and meaning. */
export interface KindOfFacts {
  /** `postgres` */
  readonly kind: string
  readonly facts: Readonly<Record<string, string>>
  readonly outcome?: Readonly<Record<string, string>>
}

function factsText({ kind, facts, outcome }: KindOfFacts): string {
  const what = `### ${kind}\n\n${table(['in `action.facts`', 'meaning'], Object.entries(facts))}`
  return outcome ? `${what}\n\n${table(['in `outcome`', 'meaning'], Object.entries(outcome))}` : what
}

/** The text of docs/reference/audit-events.md. `kinds`: what the gateways record of their actions. */
export function auditReference(kinds: readonly KindOfFacts[] = []): string {
  return `# Audit events

<!-- Made from src/audit/record.ts by src/audit/reference.ts. Do not edit. -->

Every record is a leaf: one JSON object in canonical form (RFC 8785), at most 64 KiB, kept as the very bytes that were
hashed. What is too large is cut where it can be seen, as \`{"cut": {"size", "sha256"}, "head"}\`, and never dropped.

## Types

${table(['type', 'meaning'], Object.entries(RECORD_TYPES))}

## Fields of a leaf

Fields that do not apply are absent.

${table(['field', 'meaning'], Object.entries(FIELDS))}

## Facts of an action

\`action.facts\` is what the rules read of an action, so that it can be judged again (\`chaperone audit rule\`) and found
(\`chaperone audit search --table ...\`). What is empty is absent.
${kinds.map((kind) => `\n${factsText(kind)}\n`).join('')}
## Bodies

Arguments, statements, parameters and results lie beside the leaf. The leaf holds a commitment to each:
HMAC-SHA256 over the stored bytes, with a salt of 32 random bytes that is stored with the body. So a body can be erased
or expire while every proof stays whole, and nobody can guess an erased body from what is left. A body over 256 KiB is
cut; \`cut\` then tells its full size and SHA-256.

## Secrets

Before anything is stored, the values of all secrets that Chaperone knows are replaced by \`[masked:secret]\`, also where
they stand encoded (base64, base64url, hex, percent, JSON, SQL), and what looks like a secret by \`[masked:<kind>]\`. In
\`data\` and \`outcome\`, whatever stands under a name such as \`password\`, \`token\` or \`clientSecret\` is masked whole.

## Proof

The leaves are the Merkle tree of RFC 6962: leaf hash SHA-256(0x00, leaf), node hash SHA-256(0x01, left, right), in the order of
their positions. While there is something new, its root is signed every second as a checkpoint
([tlog-checkpoint](https://c2sp.org/tlog-checkpoint), Ed25519, origin \`chaperone.<trust domain>/log\`). Keep one outside of the
store now and then: only against such a one can \`chaperone audit verify --checkpoint FILE\` find that the newest records were cut off.
`
}
