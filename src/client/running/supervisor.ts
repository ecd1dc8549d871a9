import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'

/** systemd's own: Node has no datagram sockets of unix. */
const NOTIFY = ['/usr/bin/systemd-notify', '/bin/systemd-notify'].find(existsSync)

/** Tells whoever supervises us (systemd, `Type=notify`) that the agent has joined. Nobody waits for it: without the program, or the socket, nothing is told. */
export function tellReady(env: NodeJS.ProcessEnv = process.env): void {
  if (!env.NOTIFY_SOCKET || NOTIFY === undefined) return
  execFile(NOTIFY, ['--ready', `--pid=${process.pid}`], { env: { NOTIFY_SOCKET: env.NOTIFY_SOCKET }, timeout: 5_000 }, () => {})
}
