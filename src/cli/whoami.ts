import type { WhoAmI } from '../api/contract.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { line, moment, printable, printJson } from './output.ts'

/** A code that was typed for one thing counts for others as well, for minutes: whoever typed it is told. */
export function factorText({ factor, factorAt }: WhoAmI['session']): string {
  if (!factor) return factorAt === undefined ? 'none' : `given ${moment(factorAt)}; counts no more`
  const what = factor.by === 'passkey' ? 'a passkey' : factor.by === 'totp' ? 'a code' : 'one'
  return `${what}${factorAt === undefined ? '' : `, given ${moment(factorAt)}`}; counts until ${moment(factor.until)}`
}

export const register: Register = (command) => {
  withJson(withServer(command))
    .addHelpText('after', '\nExamples:\n  chaperone whoami\n  chaperone whoami --json | jq -r .session.id')
    .action(async (flags: ServerFlags & { json?: boolean }) => {
      await withApi(flags, async (api, profile) => {
        const who = await api.call<WhoAmI>('GET', '/v1/whoami')
        if (flags.json) return printJson(who)
        const rows: [string, string][] = [
          ['identity', `${who.kind} ${who.name} (${who.id})`],
          ['server', `${profile.address}, trust domain ${who.trustDomain}`],
          ['roles', who.roles.join(', ') || 'none'],
          ['traits', Object.keys(who.traits).length === 0 ? 'none' : JSON.stringify(who.traits)],
          ['session', `${who.session.id}, by ${who.session.how}, since ${moment(who.session.startedAt)}`],
          ['credential', `until ${moment(who.notAfter)}`],
        ]
        if (who.chain.length > 1) rows.push(['chain', who.chain.map((link) => link.name).join(' → ')])
        for (const { name, leaves = [] } of who.chain) if (leaves.length > 0) rows.push(['limits', `${name}: ${leaves.join(' ')}`])
        if (who.session.purpose !== undefined) rows.push(['purpose', `claimed: ${who.session.purpose}`])
        if (who.session.factorAt !== undefined) rows.push(['factor', factorText(who.session)])
        for (const [title, text] of rows) line(`${title.padEnd(11)} ${printable(text)}`)
      })
    })
}
