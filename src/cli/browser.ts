import type { BrowserLink, BrowserList } from '../api/contract.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, list, moment, printable, printJson } from './output.ts'

type Flags = ServerFlags & { json?: boolean }

export const register: Register = (command) => {
  withJson(withServer(command)).action(async (_: unknown, self: { optsWithGlobals(): Flags }) => {
    const flags = self.optsWithGlobals()
    await withApi(flags, async (api, profile) => {
      const link = await api.call<BrowserLink>('POST', '/v1/browsers/link', {})
      if (flags.json) return printJson(link)
      line(link.url)
      process.stderr.write(
        `Open this in the browser that is to be known as ${printable(profile.identity.name)}'s. It works once, until ${moment(link.expiresAt)}.\n`,
      )
    })
  })

  command
    .command('ls')
    .description('your known browsers and your passkeys')
    .action(async (_: unknown, self: { optsWithGlobals(): Flags }) => {
      const flags = self.optsWithGlobals()
      const { browsers, passkeys } = await withApi(flags, (api) => api.call<BrowserList>('GET', '/v1/browsers'))
      if (flags.json) return printJson({ browsers, passkeys })
      const rows = [
        ...browsers.map((one) => ({ kind: 'browser', ...one })),
        ...passkeys.map((one) => ({ kind: 'passkey', expiresAt: undefined, ...one })),
      ]
      list(
        rows,
        [
          { title: 'ID', of: (row) => row.id, whole: true },
          { title: 'KIND', of: (row) => row.kind },
          { title: 'NAME', of: (row) => row.name },
          { title: 'SINCE', of: (row) => moment(row.createdAt) },
          { title: 'LAST USED', of: (row) => moment(row.lastUsedAt) },
          { title: 'KNOWN UNTIL', of: (row) => moment(row.expiresAt) },
        ],
        { none: 'No browser is known as yours, and you have no passkey.' },
      )
    })

  command
    .command('forget')
    .description('take a browser or a passkey away; what is signed in with the browser ends')
    .argument('<id>', 'as `chaperone browser ls` shows it')
    .addHelpText('after', '\nExample:\n  chaperone browser forget brw_01kaxxxxxxxxxxxxxxxxxxxxxx')
    .action(async (id: string, _: unknown, self: { optsWithGlobals(): Flags }) => {
      await withApi(self.optsWithGlobals(), (api) => api.call('DELETE', `/v1/${id.startsWith('brw_') ? 'browsers' : 'passkeys'}/${segment(id)}`))
      line(`Forgot ${printable(id)}.`)
    })
}
