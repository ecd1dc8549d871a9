import type { Register } from './commands.ts'
import { collect } from './connection.ts'
import { line } from './output.ts'
import { stopped, stopSignal } from './terminal.ts'

/** One flag for each field of server/options.ts, whose schema checks them and whose texts are the reference. */
export const register: Register = (command) => {
  command
    .option('--data-dir <dir>', 'directory of the store and of the node id; default: $XDG_DATA_HOME/chaperone')
    .option('--store <url>', 'keep the store in this PostgreSQL database instead of SQLite')
    .option('--root-key <file>', 'file with the root key; default: beside the data directory, made on the first start')
    .option('--root-passphrase-file <file>', 'derive the root key from the passphrase in this file')
    .option('--listen <host:port>', 'mTLS: data plane and API (default: 127.0.0.1:7443)')
    .option('--web-listen <host:port>', 'browsers and bearer clients (default: 127.0.0.1:7444)')
    .option('--postgres-listen <host:port>', 'PostgreSQL clients (default: 127.0.0.1:7432)')
    .option('--public-host <name>', 'a name under which clients reach this server; may be repeated', collect)
    .option('--web-url <url>', 'address under which browsers reach the web listener')
    .option('--web-cert <file>', 'certificate of the web listener, PEM')
    .option('--web-key <file>', 'its private key, PEM')
    .option('--trusted-proxy <cidr>', 'a load balancer whose word on where requests come from is believed; may be repeated', collect)
    .option('--forwarded-header <name>', 'the header in which it says so: x-forwarded-for or forwarded (default: x-forwarded-for)')
    .option('--extra-ca <file>', 'authorities that connections outwards believe too, PEM; may be repeated', collect)
    .option('--client-document <url>', 'our client metadata document, for authorization servers of MCP servers')
    .option(
      '--oauth-clients <host>',
      'a host from which OAuth clients may bring their metadata document; may be repeated (default: every public one)',
      collect,
    )
    .option('--oauth-registration', 'let OAuth clients register themselves')
    .option('--trust-domain <name>', 'the SPIFFE trust domain; fixed after the first start')
    .option('--admin <name>', 'the first administrator, invited on the first start (default: admin)')
    .option('--log-level <level>', 'silent, error, warn, info or debug (default: info)')
    .addHelpText(
      'after',
      `
Examples:
  chaperone up                       on this machine alone; prints an invitation the first time
  chaperone up --listen 0.0.0.0:7443 --public-host chaperone.example.com
  chaperone up --store postgres://chaperone@db.internal/chaperone --root-key /etc/chaperone/root.key`,
    )
    .action(async (flags: Record<string, string>) => {
      const stop = stopSignal()
      const { startServer } = await import('../server/start.ts')
      const { defaultDataDir } = await import('../server/options.ts')
      const server = await startServer({ ...flags, dataDir: flags.dataDir ?? defaultDataDir() } as Parameters<typeof startServer>[0])
      const { data, web, postgres } = server.addresses
      line(`Chaperone is ready. Trust domain ${server.trustDomain}, node ${server.nodeId}`)
      line(`  mTLS (CLI, agents)   ${data}`)
      line(`  web                  ${web}`)
      line(`  PostgreSQL           ${postgres}`)
      line(`  data directory       ${server.parts.options.dataDir}`)
      line('Leave this running; Ctrl-C stops it.')
      if (server.invitation) {
        const hours = Math.round((server.invitation.expiresAt - server.parts.clock.now()) / 3_600_000)
        line(`\nThe first administrator, ${server.invitation.name}, signs in with this (it works once, within ${hours} hours):`)
        line(`  chaperone login '${server.invitation.line}'`)
        line(`Or, with a browser only: ${server.invitation.browser}`)
      }
      await stopped(stop)
      await server.stop(String(stop.reason))
    })
}
