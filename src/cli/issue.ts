import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Credential, Token } from '../api/contract.ts'
import { makeKeyPair } from '../client/key-pair.ts'
import { profileOf, writePrivately } from '../client/profile.ts'
import { ChaperoneError } from '../errors.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { line, moment, printJson } from './output.ts'

interface Flags extends ServerFlags {
  readonly json?: boolean
  readonly ttl?: string
  readonly purpose?: string
  readonly out?: string
  readonly pem?: string
  readonly token?: string
}

export const register: Register = (command) => {
  withJson(withServer(command))
    .argument('<name>', 'the identity that the credential is for')
    .option('--ttl <duration>', 'life of the credential, 30s to 12h; default: 3m')
    .option('--purpose <text>', 'what it is for; stands in every record')
    .option('--out <file>', 'write key and certificate to this file, for --identity and for CHAPERONE_HOME')
    .option('--pem <dir>', 'write key.pem, cert.pem and ca.pem into this folder, for other programs')
    .option('--token <audience>', 'a bearer token for this URL instead of a certificate, printed on stdout')
    .addHelpText(
      'after',
      `
You are named as the issuer in the credential and in every record of it.

Examples:
  chaperone issue report-bot --out report-bot.json
  chaperone issue report-bot --ttl 1h --token https://chaperone.example.com:7444/mcp/files`,
    )
    .action(async (name: string, flags: Flags) => {
      const ways = [flags.out, flags.pem, flags.token].filter((way) => way !== undefined)
      if (ways.length !== 1)
        throw new ChaperoneError('usage', 'Say where the credential goes.', { fix: 'Give one of --out FILE, --pem DIR and --token AUDIENCE.' })
      const ask = { name, ...(flags.ttl === undefined ? {} : { ttl: flags.ttl }), ...(flags.purpose === undefined ? {} : { purpose: flags.purpose }) }
      await withApi(flags, async (api, { address }) => {
        if (flags.token !== undefined) {
          const made = await api.call<Token>('POST', '/v1/issue', { ...ask, token: { audience: flags.token } })
          if (flags.json) return printJson(made)
          line(made.token)
          process.stderr.write(`A token for ${name}, until ${moment(made.notAfter)}.\n`)
          return
        }
        const pair = makeKeyPair()
        const made = await api.call<Credential>('POST', '/v1/issue', { ...ask, csr: pair.csr })
        if (flags.out !== undefined) await writePrivately(flags.out, `${JSON.stringify(profileOf(address, pair.key, made), null, 2)}\n`)
        if (flags.pem !== undefined) {
          await mkdir(flags.pem, { recursive: true, mode: 0o700 })
          await writePrivately(join(flags.pem, 'key.pem'), pair.key)
          await writePrivately(join(flags.pem, 'cert.pem'), made.certificate, { mode: 0o644 })
          await writePrivately(join(flags.pem, 'ca.pem'), made.bundles.server, { mode: 0o644 })
        }
        if (flags.json) return printJson({ identity: made.identity, session: made.session, notAfter: made.notAfter, written: flags.out ?? flags.pem })
        line(`A credential for ${made.identity.name} until ${moment(made.notAfter)}: ${flags.out ?? flags.pem}`)
      })
    })
}
