import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'

/** pgbouncer from Debian, session mode, TLS with client certificates in front, plain TCP behind: the floor of W8. */
export async function startPgbouncer(options: {
  readonly dir: string
  readonly upstreamPort: number
  readonly tls: { readonly cert: string; readonly key: string }
  readonly clientCa: string
  readonly user: string
}) {
  if (spawnSync('pgbouncer', ['--version']).status !== 0) throw new Error('it is not installed (Debian package pgbouncer)')
  const dir = join(options.dir, 'bouncer')
  mkdirSync(dir)
  chmodSync(options.dir, 0o755)
  const port = await freePort()
  const file = (name: string, text: string, mode = 0o600) => {
    writeFileSync(join(dir, name), text, { mode })
    return join(dir, name)
  }
  const files = [
    file('users.txt', `"${options.user}" ""\n`),
    file('server.crt', options.tls.cert),
    file('server.key', options.tls.key),
    file('ca.crt', options.clientCa),
  ]
  const ini = file(
    'pgbouncer.ini',
    `[databases]
bench = host=127.0.0.1 port=${options.upstreamPort} user=${options.user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
pool_mode = session
auth_type = any
auth_file = ${files[0]}
max_client_conn = 200
default_pool_size = 64
client_tls_sslmode = verify-ca
client_tls_cert_file = ${files[1]}
client_tls_key_file = ${files[2]}
client_tls_ca_file = ${files[3]}
unix_socket_dir =
logfile = ${join(dir, 'log')}
log_connections = 0
log_disconnections = 0
`,
  )
  // pgbouncer refuses to run as root.
  const root = userInfo().uid === 0
  const as = root
    ? {
        uid: Number(spawnSync('id', ['-u', 'postgres'], { encoding: 'utf8' }).stdout),
        gid: Number(spawnSync('id', ['-g', 'postgres'], { encoding: 'utf8' }).stdout),
      }
    : undefined
  if (as) for (const name of [dir, ini, ...files]) chownSync(name, as.uid, as.gid)
  const child = spawn('pgbouncer', [ini], { stdio: 'ignore', ...as })
  const until = performance.now() + 5_000
  while (!(await answers(port))) {
    if (child.exitCode !== null || performance.now() > until) throw new Error(`it did not start (exit code ${child.exitCode})`)
    await new Promise((done) => setTimeout(done, 50))
  }
  return {
    port,
    pid: child.pid!,
    async stop() {
      const gone = new Promise((done) => child.once('exit', done))
      child.kill('SIGINT')
      const timer = setTimeout(() => child.kill('SIGKILL'), 3_000)
      await gone
      clearTimeout(timer)
    },
  }
}

const answers = (port: number) =>
  new Promise<boolean>((done) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      done(true)
    })
    socket.once('error', () => done(false))
  })

const freePort = () =>
  new Promise<number>((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => done(port))
    })
  })
