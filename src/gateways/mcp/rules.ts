import { z } from 'zod'
import { ChaperoneError } from '../../errors.ts'
import { argsMatcher, argsSchema, trapLossy } from '../../policy/args.ts'
import { limitsWords } from '../../policy/limits.ts'
import {
  type Action,
  EFFECTS,
  type Effect,
  type Matcher,
  type ObligationMerge,
  type Section,
  type Variables,
  type Vocabulary,
} from '../../policy/types.ts'
import { type ValueMatcher, valueMatcher, valueSchema } from '../../policy/value.ts'
import type { McpFacts } from './describe.ts'
import { misfits } from './offers/schema-check.ts'
import { proposeRules, recalledFacts, recordedFacts } from './recorded.ts'

const limits = limitsWords('server', 'tool')

const fields = z.object({
  tools: valueSchema.optional().describe('tools by name or glob, or any'),
  prompts: valueSchema.optional().describe('prompts by name or glob, or any'),
  resources: valueSchema.optional().describe('resources by URI or glob, or any'),
  can: z
    .union([z.literal('any'), z.enum(EFFECTS), z.array(z.enum(EFFECTS)).min(1)])
    .optional()
    .describe('by effect: in allow an action may have no effect beyond these; in ask and deny one of these is enough'),
  operations: valueSchema.optional().describe('by method: tools/call, resources/read, sampling/createMessage ...'),
  args: argsSchema.optional().describe('conditions on the arguments of a tool or prompt'),
  limits: limits.schema.optional().describe('how often what the rule allows may be done; handshakes, lists, pings and notifications do not count'),
})
type Fields = z.infer<typeof fields>

const obligations: Readonly<Record<string, ObligationMerge>> = { limits: limits.merge }

/**
 * The words for `- mcp: files`.
 *
 * `tools`, `prompts` and `resources` say what a rule speaks of; `can`, `operations` and `args` narrow that. A rule with none
 * of the first three speaks of all of them. What every client needs before it can do anything (handshake, lists, ping,
 * notifications) is allowed by any allow rule that selects the server, and met by ask and deny only when they name the
 * operation, or in deny the whole server: a condition about tools can never block `tools/list`.
 */
export const mcpVocabulary: Vocabulary = {
  kind: 'mcp',
  fields,
  what: ['tools', 'prompts', 'resources', 'can', 'operations'],
  obligations,
  compile: (rule, section) => compile(rule as Fields, section),
  opens: (action) => factsOf(action).about === 'session',
  tool: (action) => {
    const { about, from, tool } = factsOf(action)
    return about === 'tool' ? tool : about === 'session' || from === 'server' ? '' : undefined
  },
  variables: (action) => {
    const facts = factsOf(action)
    return (trapLossy(facts.args ?? {}, facts.lossy) ?? {}) as Record<string, unknown>
  },
  misfits,
  recorded: recordedFacts,
  recalled: recalledFacts,
  wasPartial: ({ facts }) => facts.about === 'session' || facts.listing === true,
  propose: proposeRules,
  // Not by URI: with a template behind it a client could name new ones for ever, each with a count of its own.
  item: (action) => {
    const { about, tool, prompt } = factsOf(action)
    return about === 'tool' || about === 'prompt' ? `${about} ${tool ?? prompt}` : ''
  },
}

const factsOf = (action: Action) => action.facts as unknown as McpFacts

function compile(rule: Fields, section: Section): Matcher {
  // In deny it would stand there and refuse nothing (peers R23).
  if (rule.args !== undefined && rule.resources !== undefined)
    throw new ChaperoneError('invalid_document', 'Resources have no arguments, so a rule about them with `args` never matches.', {
      fix: 'Write one rule about `tools` or `prompts` with `args`, and another about `resources`.',
    })
  const operations = rule.operations === undefined ? undefined : valueMatcher(rule.operations)
  const about = aboutMatcher(rule, section)
  const can = rule.can === undefined ? undefined : effectsMatcher(rule.can, section)
  const args = rule.args === undefined ? undefined : argsOf(rule.args, section)
  const whole = Object.values(rule).every((value) => value === undefined)

  return (action, variables) => {
    const facts = factsOf(action)
    if (facts.about === 'session') return section === 'allow' || whole || (operations?.(action.operation, variables) ?? false)
    if (operations && !operations(action.operation, variables)) return false
    if (can && !can(action.effects)) return false
    if (!about(facts, variables)) return false
    return args === undefined || args(facts, variables)
  }
}

function effectsMatcher(can: NonNullable<Fields['can']>, section: Section): (effects: readonly Effect[]) => boolean {
  if (can === 'any') return () => true
  const set = new Set<Effect>(typeof can === 'string' ? [can] : can)
  return section === 'allow' ? (effects) => effects.every((effect) => set.has(effect)) : (effects) => effects.some((effect) => set.has(effect))
}

type About = (facts: McpFacts, variables: Variables) => boolean

/** Whether the rule speaks of this tool, prompt or resource. */
function aboutMatcher(rule: Fields, section: Section): About {
  const { tools, prompts, resources } = rule
  if (tools === undefined && prompts === undefined && resources === undefined) {
    // Arguments are what tools, prompts and a server's own requests have: a rule about them says nothing of a resource.
    return rule.args === undefined ? () => true : (facts) => facts.about === 'tool' || facts.about === 'prompt' || facts.from === 'server'
  }
  const tool = tools === undefined ? undefined : valueMatcher(tools)
  const prompt = prompts === undefined ? undefined : valueMatcher(prompts)
  const uri = resources === undefined ? undefined : uriMatcher(resources, section)
  return (facts, variables) => {
    if (facts.about === 'tool') return tool?.(facts.tool ?? '', variables) ?? false
    if (facts.about === 'prompt') return prompt?.(facts.prompt ?? '', variables) ?? false
    if (facts.about !== 'resource' || !uri || !facts.uris) return false
    const one = (text: string) => uri(text, variables)
    return section === 'deny' ? facts.uris.some(one) : facts.uris.every(one)
  }
}

/** Dot segments, also as percent signs, and backslashes: where such a URI leads only its server knows. */
const WANDERS = /(^|[/\\])(\.|%2e){1,2}([/\\?#]|$)|\\|%2f|%5c|%00/i

/** URIs are compared as they are, never rewritten. One that wanders is not under any pattern in allow, and under all in deny. */
function uriMatcher(resources: string | readonly string[], section: Section): ValueMatcher {
  const matches = valueMatcher(resources)
  if (resources === 'any') return matches
  const names = new Set(typeof resources === 'string' ? [resources] : resources)
  return (uri, variables) => (WANDERS.test(uri) ? section === 'deny' || names.has(uri) : matches(uri, variables))
}

/**
 * While a list is filtered there are no arguments yet: a tool that some arguments would allow is shown, one that only some
 * arguments would deny is not hidden.
 *
 * An argument written in another case (`Path` for `path`) is the same one for servers whose decoder ignores case (peers R01):
 * a rule on `path` does not match in allow, matches in deny, and fails in ask, so that an allow beside it cannot slip past the question.
 */
function argsOf(spec: NonNullable<Fields['args']>, section: Section): About {
  const matches = argsMatcher(spec, section)
  const exact = new Set(Object.keys(spec).flatMap((name) => [name, name.split('.')[0]!]))
  const folded = new Set([...exact].map(fold))
  return (facts, variables) => {
    if (facts.listing) return section !== 'deny'
    const args = facts.args
    if (args) {
      const variant = Object.keys(args).find((key) => !exact.has(key) && folded.has(fold(key)))
      if (variant !== undefined) {
        if (section === 'ask') throw new ChaperoneError('ambiguous', 'An argument is written in another case than the rule has it.')
        return section === 'deny'
      }
    }
    return matches(args, facts.lossy, variables)
  }
}

const fold = (key: string) => key.toUpperCase().toLowerCase()
