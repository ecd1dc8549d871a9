import type { Applied } from '../api/contract.ts'
import { printApplied } from './apply.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, segment, withApi, withJson, withServer, withWait } from './connection.ts'
import { printJson } from './output.ts'

export const register: Register = (command) => {
  withWait(withJson(withServer(command)))
    .argument('<kind>', 'as `chaperone get` shows it')
    .argument('<name>', 'of the document')
    .addHelpText('after', '\nA deleted identity stops at once, and its name is never used again.\n\nExample:\n  chaperone delete agent report-bot')
    .action(async (kind: string, name: string, flags: ServerFlags & { json?: boolean }) => {
      const applied = await withApi(flags, (api) => api.call<Applied>('DELETE', `/v1/documents/${segment(kind)}/${segment(name)}`))
      if (flags.json) return printJson(applied)
      printApplied(applied)
    })
}
