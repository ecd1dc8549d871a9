import assert from 'node:assert/strict'
import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { enrol } from '../../src/demo/person.ts'
import { probe } from '../../src/gateways/mcp/stdio/isolation.ts'
import { apply, issued } from '../parts/governed.ts'
import { ask } from '../parts/house.ts'
import { folder, up } from '../parts/process.ts'

const means = await probe()
const ways = ['none', ...(means.user.works ? ['user'] : []), ...(means.bubblewrap.works ? ['bubblewrap'] : [])]

/** A server that hears no signal, does not read its stdin to the end, and leaves a child and a daemon behind. */
const SERVER = `
import { spawn } from 'node:child_process'
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => {})
const way = process.argv[2]
spawn('sleep', ['86400.' + way], { stdio: 'ignore' })
// A session of its own, another parent, another folder, nothing of ours open.
spawn('/bin/sh', ['-c', 'cd / && setsid sleep 86401.' + way + ' >/dev/null 2>&1 </dev/null &'], { stdio: 'ignore' })
process.stdin.once('data', (chunk) => {
  const { id, params } = JSON.parse(chunk.toString().split('\\n')[0])
  process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, result: { protocolVersion: params.protocolVersion, capabilities: {}, serverInfo: { name: way, version: process.env.HOME } } }) + '\\n')
})
setInterval(() => {}, 1000)
`

/** Empty when it has ended. */
const commandLine = (pid: string): string => {
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')) ? '' : readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    return ''
  }
}

/** Every process that has this text in its command line. */
const running = (text: string) => readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && commandLine(pid).includes(text))

const eventually = async (check: () => boolean, what: () => string) => {
  for (const end = performance.now() + 30_000; !check(); await wait(20)) if (performance.now() > end) assert.fail(what())
}

test('rule 6: kill -9 of Chaperone leaves nothing that it started, under no isolation (peers R82, R86)', {
  skip: existsSync('/proc/self/status') ? false : 'needs /proc',
}, async (t) => {
  const dir = await folder(t)
  chmodSync(dir, 0o755)
  const programs = join(dir, 'programs')
  await mkdir(programs)
  // Unmistakable also for other runs of this test on the same machine.
  const mark = `of-${process.pid}-${Date.now()}-`
  // Digits alone, as `sleep` takes them, and always as many: none is the beginning of another one.
  const digits = `${String(process.pid).padStart(8, '0')}${Date.now()}`
  const script = join(programs, 'server.mjs')
  writeFileSync(script, SERVER.replaceAll("' + way", `${digits}' + way`))
  // Whatever the umask is.
  chmodSync(programs, 0o755)
  chmodSync(script, 0o644)
  const server = await up(t, join(dir, 'data'), ['--admin', 'dana'])
  const dana = await enrol('dana', server.invitation!, join(dir, 'dana'))
  t.after(async () => dana.api.close())
  const servers = ways.map((way) =>
    JSON.stringify({ kind: 'mcp', name: way, spec: { command: [process.execPath, script, String(ways.indexOf(way)), mark], isolation: way } }),
  )
  const role = { kind: 'role', name: 'tester', spec: { allow: [{ mcp: 'any', tools: 'any' }] } }
  const agent = { kind: 'agent', name: 'bot', spec: { owner: 'dana', roles: ['tester'] } }
  await apply(dana, [...servers, JSON.stringify(role), JSON.stringify(agent)].join('\n---\n'))
  const held = await issued(dana, 'bot', '10m')

  const homes: string[] = []
  for (const way of ways) {
    const { status, text } = await ask(server.addresses.data, `/mcp/${way}`, {
      method: 'POST',
      key: held.key,
      cert: held.certificate,
      headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
      body: JSON.stringify({
        jsonrpc: '2.0',
        id: 1,
        method: 'initialize',
        params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 't', version: '1' } },
      }),
    })
    const about = status === 200 ? JSON.parse(text).result?.serverInfo : undefined
    assert.ok(about, `${way}: ${status} ${text}`)
    if (way !== 'bubblewrap') homes.push(about.version)
  }
  const left = () => [mark, `86400.${digits}`, `86401.${digits}`].flatMap(running)
  await eventually(
    () => running(`86400.${digits}`).length === ways.length && running(`86401.${digits}`).length >= ways.length,
    () => `children and daemons run: ${left()}`,
  )
  assert.ok(running(mark).length >= ways.length)
  assert.ok(homes.every((home) => existsSync(home)))

  await server.kill('SIGKILL')
  await eventually(
    () => left().length === 0 && homes.every((home) => !existsSync(home)),
    () => `left over: ${left().map(commandLine)} ${homes.filter((home) => existsSync(home))}`,
  )
})
