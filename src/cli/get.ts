import type { Document } from '../api/contract.ts'
import type { JoinWay } from '../api/join-contract.ts'
import type { Register } from './commands.ts'
import { query, type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { labelsText, line, list, moment, printableLines, printJson } from './output.ts'

export const register: Register = (command) => {
  withJson(withServer(command))
    .argument('[kind]', 'role, guardrail, user, agent, join, mcp, postgres ...; without it everything')
    .argument('[name]', 'one document, printed as YAML that can be applied again')
    .option('--line', 'of a `join` document: the line that tells a machine which server to join')
    .option('--yaml', 'print the listing as YAML that can be applied again')
    .addHelpText('after', '\nExamples:\n  chaperone get role\n  chaperone get role developer > developer.yaml')
    .action(async (kind: string | undefined, name: string | undefined, flags: ServerFlags & { json?: boolean; yaml?: boolean; line?: boolean }) => {
      await withApi(flags, async (api) => {
        if (flags.line && kind === 'join' && name !== undefined) {
          line((await api.call<JoinWay>('GET', `/v1/joins/${segment(name)}`)).server)
          return
        }
        if (kind !== undefined && name !== undefined) {
          const document = await api.call<Document>('GET', `/v1/documents/${segment(kind)}/${segment(name)}`)
          if (flags.json) printJson(document)
          else process.stdout.write(printableLines(document.yaml))
          return
        }
        const { documents } = await api.call<{ documents: Document[] }>('GET', `/v1/documents${query({ kind })}`)
        if (flags.yaml) return line(documents.map((document) => printableLines(document.yaml).trimEnd()).join('\n---\n'))
        list(
          documents,
          [
            { title: 'KIND', of: (row) => row.kind },
            { title: 'NAME', of: (row) => row.name },
            { title: 'LABELS', of: (row) => labelsText(row.labels) },
            { title: 'OWNER', of: (row) => row.owner },
            { title: 'CHANGED', of: (row) => moment(row.updatedAt) },
          ],
          { json: flags.json, none: 'Nothing was applied yet.' },
        )
      })
    })
}
