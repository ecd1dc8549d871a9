import { createServer } from 'node:net'

/**
 * Below what a system gives to whoever takes any port (Linux: 32768 and up), and for each process some of its own: between
 * finding a port free and listening there, or while a server starts again, nobody else is given it by chance.
 */
const FIRST = 10_000
const EACH = 10
const PROCESSES = 2_000

let taken = 0

/** A port of 127.0.0.1 on which nobody listens; another one each time. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < PROCESSES * EACH; tries++) {
    const port = FIRST + (((process.pid % PROCESSES) * EACH + taken++) % (PROCESSES * EACH))
    if (await isFree(port)) return port
  }
  throw new Error('No free port was found.')
}

const isFree = (port: number): Promise<boolean> =>
  new Promise((done) => {
    const probe = createServer()
      .once('error', () => done(false))
      .listen(port, '127.0.0.1', () => probe.close(() => done(true)))
  })
