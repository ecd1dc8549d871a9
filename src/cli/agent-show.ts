import type { Command } from 'commander'
import type { AgentDetail } from '../api/agents-contract.ts'
import { agentLines } from './agent-words.ts'
import { type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, printJson } from './output.ts'

/** `chaperone agent show` */
export function show(command: Command): void {
  withJson(withServer(command.command('show').description('one agent: whose, what runs, what it may do, what of that it never used')))
    .argument('<name>', 'name of the agent')
    .addHelpText('after', '\nExamples:\n  chaperone agent show report-bot\n  chaperone agent show boris/claude-code')
    .action(async (name: string, flags: ServerFlags & { json?: boolean }) => {
      const agent = await withApi(flags, (api) => api.call<AgentDetail>('GET', `/v1/agents/${segment(name)}`))
      if (flags.json) return printJson(agent)
      for (const text of agentLines(agent)) line(text)
    })
}
