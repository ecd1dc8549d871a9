import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { decodeJwt } from 'jose'
import type { SessionRow } from '../../src/api/contract.ts'
import { probeAbility } from '../../src/client/running/isolation.ts'
import { rigOfFile, start } from './rig.ts'

const ability = await probeAbility()
const rig = rigOfFile()
const CURL = 'curl -s --max-time 20 --unix-socket $CHAPERONE_SOCKET'
const JSON_BODY = `-H 'content-type: application/json'`

async function run(t: TestContext, script: string, flags: readonly string[] = ['--isolation', 'none']) {
  const args = ['agent', 'run', '--as', 'first', '--join', await rig.token('first'), ...flags, '--', 'bash', '-c', script]
  return start(t, args, { home: join(rig.dir, 'nobody'), cwd: rig.work })
}

test('a program that has bash and curl alone says who it is, gets a token for somebody else, and hands on a part of its rights', async (t) => {
  const one = await run(
    t,
    [
      `${CURL} http://x/v1/whoami; echo`,
      `${CURL} ${JSON_BODY} -d '{"audience":"https://api.example.com"}' http://x/v1/token; echo`,
      `${CURL} ${JSON_BODY} -d '{"to":"second","limits":{"effects":["read"]},"for":"1m","token":{"audience":"https://chaperone.internal/mcp"}}' http://x/v1/exchange; echo`,
    ].join('\n'),
    ability.bwrap === undefined ? ['--isolation', 'none'] : ['--network', 'chaperone'],
  )
  assert.equal(await one.ended, 0, one.err())
  const [who, svid, sub] = one
    .out()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.equal(who.name, 'first')
  assert.deepEqual([decodeJwt(svid.token).aud].flat(), ['https://api.example.com'])
  const { sub: whom, act, client_id } = decodeJwt(sub.token)
  assert.equal(whom, who.id, 'for whom it acts')
  assert.notEqual((act as { sub: string }).sub, whom)
  assert.match(String(client_id), /agent\/second$/)
})

test('what is too large is refused, and the runner and its program go on', async (t) => {
  const one = await run(
    t,
    [
      `head -c 40000 /dev/zero | tr '\\0' a >header`,
      `${CURL} -o /dev/null -w 'header %{http_code}\\n' -H "x: $(cat header)" http://x/v1/whoami`,
      `head -c 60000000 /dev/zero | ${CURL} -o /dev/null -w 'body %{http_code}\\n' ${JSON_BODY} --data-binary @- http://x/v1/token`,
      `${CURL} -o /dev/null -w 'method %{http_code}\\n' -X TRACE http://x/v1/whoami`,
      // Connections that say nothing: two times as many as are let in.
      `node -e 'const net = require("net"); let shut = 0; for (let i = 0; i < 1200; i++) net.connect(process.env.CHAPERONE_SOCKET).on("error", () => {}).on("close", () => { if (++shut === 600) { console.log("crowd refused"); process.exit() } })'`,
      `${CURL} -o /dev/null -w 'then %{http_code}\\n' http://x/v1/whoami`,
    ].join('\n'),
  )
  assert.equal(await one.ended, 0, one.err())
  assert.match(one.out(), /^header 431$/m)
  assert.match(one.out(), /^body (?:413|000)$/m)
  assert.match(one.out(), /^method 501$/m)
  assert.match(one.out(), /^crowd refused$/m)
  assert.match(one.out(), /^then 200$/m)
})

test('rule 4: what holds the socket open when the program has ended is cut off, also where it has left everything by which it could be found', {
  skip: !existsSync('/usr/bin/prlimit') && 'no setsid, no prlimit',
}, async (t) => {
  const log = join(rig.dir, `holder-${process.pid}`)
  const holder = `const fs = require("fs"), socket = require("net").connect(process.argv[1], () => fs.appendFileSync(process.argv[2], "open ")); socket.on("error", () => {}).on("close", () => { fs.appendFileSync(process.argv[2], "cut "); require("net").connect(process.argv[1]).on("error", ({ code }) => fs.appendFileSync(process.argv[2], code + " end")) }); setTimeout(() => process.exit(), 30000)`
  const one = await run(
    t,
    `env -i PATH="$PATH" prlimit --locks=7:7 setsid node -e '${holder}' "$CHAPERONE_SOCKET" ${log} >/dev/null 2>&1 </dev/null & until test -s ${log}; do sleep 0.05; done`,
  )
  assert.equal(await one.ended, 0, one.err())
  let text = ''
  while (!text.endsWith('end')) text = await readFile(log, 'utf8')
  assert.equal(text, 'open cut ENOENT end')
  const { sessions } = await rig.boris.api.call<{ sessions: SessionRow[] }>('GET', '/v1/sessions?of=first')
  assert.deepEqual(sessions, [])
})

test('links that a program leaves behind lead the cleaning nowhere: what they point to stays', async (t) => {
  const victim = join(rig.dir, 'victim')
  await mkdir(victim)
  await writeFile(join(victim, 'api.sock'), 'stays')
  const one = await run(
    t,
    [
      `ln -s ${victim} "$TMPDIR/link"; ln -s ${victim} "$HOME/link"`,
      `rm "$CHAPERONE_SOCKET" && ln -s ${victim}/api.sock "$CHAPERONE_SOCKET"`,
      `mv "$(dirname "$CHAPERONE_SVID_DIR")/tmp" "$TMPDIR-moved"; ln -s ${victim} "$TMPDIR"`,
      'dirname $(dirname "$CHAPERONE_SOCKET")',
    ].join('\n'),
  )
  assert.equal(await one.ended, 0, one.err())
  assert.ok(!existsSync(one.out().trim()))
  assert.equal(await readFile(join(victim, 'api.sock'), 'utf8'), 'stays')
})

test('another user of the machine cannot open the socket of a run', {
  skip: process.getuid?.() !== 0 && 'only root can be another user',
}, async (t) => {
  const one = await run(
    t,
    `for how in "--reuid 65534 --regid 65534 --clear-groups" ""; do setpriv $how curl -s -o /dev/null -w '%{http_code} %{exitcode}\\n' --unix-socket $CHAPERONE_SOCKET http://x/run; done; true`,
  )
  assert.equal(await one.ended, 0, one.err())
  assert.match(one.out(), /^000 7\n200 0\n$/)
})
