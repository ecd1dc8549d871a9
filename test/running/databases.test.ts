import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { probeAbility } from '../../src/client/running/isolation.ts'
import { governed, invited, READER, things } from '../parts/governed.ts'
import { start } from './rig.ts'

const ability = await probeAbility()
const pg = fileURLToPath(new URL('../../node_modules/pg', import.meta.url))

test('a program of a run reaches its database by a socket, in a namespace without a network, with no password and as the database user that was named', async (t) => {
  const own = await governed(t)
  const { dir, dana } = own
  await things(t, own, `kind: user\nname: boris\nspec: { roles: [reader] }\n---\n${READER}`)
  const boris = await invited(t, dana, 'boris', dir)
  const work = join(dir, 'work')
  await mkdir(work)
  const ask = `const { Client } = require(${JSON.stringify(pg)}); const c = new Client(); c.connect().then(() => c.query('SELECT count(*)::int AS n FROM things')).then(({ rows }) => console.log('rows', rows[0].n)).then(() => c.query('DELETE FROM things')).catch((e) => console.log('refused', e.code)).finally(() => c.end())`
  const network = ability.bwrap === undefined ? [] : ['--network', 'chaperone']
  const run = start(
    t,
    [
      'run',
      ...network,
      '--database',
      'things/postgres:reader',
      '--',
      'sh',
      '-c',
      `cat $PGSERVICEFILE; env | grep ^PG; node -e "${ask.replaceAll('"', '\\"')}"`,
    ],
    {
      home: boris.home,
      cwd: work,
      env: { HOME: dir },
    },
  )
  assert.equal(await run.ended, 0, run.err())
  assert.match(run.out(), /^\[things\]\nhost=\/.*\nport=5432\ndbname=postgres\nsslmode=disable\nuser=reader/m)
  assert.match(run.out(), /rows 2/)
  assert.match(run.out(), /refused 42501/)
  assert.match(run.err(), /databases +things\/postgres as reader: service=things/)
})
