import type { Command } from 'commander'
import { ChaperoneError } from '../errors.ts'
import type { Effect, Limits } from '../policy/types.ts'
import type { Register } from './commands.ts'
import { collect, profileFor, type ServerFlags, withServer } from './connection.ts'
import { type PlacingFlags, placed, placing, runToEnd } from './run-placing.ts'

interface Flags extends ServerFlags, PlacingFlags {
  readonly profile?: string
  readonly role?: readonly string[]
  readonly resource?: readonly string[]
  readonly tool?: readonly string[]
  readonly readOnly?: true
  readonly client?: string
}

const READ_ONLY: readonly Effect[] = ['read']

export const register: Register = (command) => {
  withServer(placing(narrowing(command)))
    .argument('<command...>', 'the program and its arguments, after --')
    .addHelpText('after', EXAMPLES)
    .action(async (words: string[], flags: Flags) => {
      const { runIssuer } = await import('../client/running/issuers.ts')
      const { clientOf } = await import('../client/running/programs.ts')
      const { openProfiles } = await import('../client/profile.ts')
      const profile = await profileFor(flags)
      if (profile.identity.kind !== 'user')
        throw new ChaperoneError('usage', `${profile.identity.name} is an agent; \`chaperone run\` is for people.`, {
          fix: `An agent runs as itself: chaperone agent run --as ${profile.identity.name} -- ${words[0]}`,
        })
      const { assertSignedIn } = await import('../client/keep.ts')
      assertSignedIn(profile)
      const limits = limitsOf(flags)
      const { for: time, purpose } = flags
      const ask = {
        client: flags.client ?? clientOf(words[0]!),
        ...(flags.profile === undefined ? {} : { profile: flags.profile }),
        ...(Object.keys(limits).length === 0 ? {} : { limits }),
        ...(time === undefined ? {} : { for: time }),
        ...(purpose === undefined ? {} : { purpose }),
      }
      await runToEnd(words, flags, () => runIssuer(profile, ask), {
        kind: 'person',
        behalf: profile.identity.name,
        limits,
        by: flags.identity ?? openProfiles().file(profile.address),
        ...placed(flags),
      })
    })
}

const narrowing = (command: Command): Command =>
  command
    .option('--profile <name>', 'limits that somebody wrote down: a document of kind profile')
    .option('--role <name>', 'only this role of yours counts; may be repeated', collect)
    .option('--resource <kind/name>', 'only this resource, or a glob: mcp/files, postgres/*; may be repeated', collect)
    .option('--tool <server/tool>', 'of MCP servers only this tool, or a glob: files/read_*; may be repeated', collect)
    .option('--read-only', 'only what reads')
    .option('--client <name>', 'act as YOU/<name>; default: the name of the program')

function limitsOf({ role, resource, tool, readOnly }: Flags): Limits {
  return {
    ...(role ? { roles: role } : {}),
    ...(resource ? { resources: resource } : {}),
    ...(tool ? { tools: tool } : {}),
    ...(readOnly ? { effects: READ_ONLY } : {}),
  }
}

const EXAMPLES = `
Examples:
  chaperone run -- claude
  chaperone run --read-only --tool 'files/*' --for 1h -- claude -p "summarize the notes"
  chaperone run --profile reviewer -- codex
  chaperone run --network chaperone -- python3 report.py`
