import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { bind, execute, sync } from './raw.fixture.ts'
import { startRig } from './rig.fixture.ts'
import { otherNames, traitsOf } from './sql/encodings.ts'
import { loadParser } from './sql/parse.ts'
import { parseMessage as parse, queryMessage as query } from './wire/write.ts'

before(loadParser)

const ONLY = (tables: readonly string[]) => ({ allow: [{ postgres: 'any', databases: ['shop'], as: 'any', can: ['read', 'write'], tables }] })
const [CUT, WHOLE] = ['é'.repeat(31), 'é'.repeat(40)]

for (const encoding of ['UTF8', 'LATIN1', 'SQL_ASCII', 'EUC_JP'])
  test(`rule 2: a name is judged as the one that a database of ${encoding} makes of it, or not run at all`, async () => {
    const rig = await startRig({ encoding, roles: [ONLY(['public.a*', `public.${CUT}`, 'public.straße'])] })
    try {
      const long = `${'a'.repeat(62)}é`
      const made = { UTF8: [CUT], SQL_ASCII: [CUT], LATIN1: [CUT, WHOLE] }[encoding] ?? []
      for (const name of made) await rig.admin.query(`create table "${name}" as select 'in ${name.length}' as what`)
      await rig.admin.query(`create table "${'a'.repeat(62)}" as select 'short' as what`)
      if (encoding === 'LATIN1') await rig.admin.query(`create view a_view as select what, 'a"' as quote from "${WHOLE}"`)
      await rig.admin.query(`grant select on all tables in schema public to writer`)
      const raw = await rig.raw('writer')
      const answer = async (...frames: Buffer[]) => {
        raw.send(...frames)
        return (await raw.answers()).join(' ')
      }
      const ask = (sql: string) => answer(query(sql))
      const same = encoding === 'UTF8'
      const refused = /^E:42501 ZI$/
      const seen = await ask(`select what from "${WHOLE}"`)
      if (same) assert.equal(seen, 'N:42622 D:in 31 C:SELECT 1 ZI')
      else assert.match(seen, refused)
      assert.match(await answer(parse('', `select what from "${WHOLE}"`), bind('', ''), execute(''), sync()), same ? /in 31/ : refused)
      const escaped = `select what from U&"${'!00e9'.repeat(40)}" uescape '!'`
      if (encoding !== 'SQL_ASCII') assert.match(await ask(escaped), same ? /in 31/ : refused)
      assert.match(await ask(`select what from ${long}`), same ? /D:short/ : refused)
      assert.match(await ask(`select 'é', ${'a'.repeat(70)}.what from ${'a'.repeat(62)} ${'a'.repeat(70)}`), /D:.*short/)
      // In a text of its own thread too.
      assert.match(await ask(`select what from "${WHOLE}" where what <> '${'x'.repeat(70_000)}'`), same ? /in 31/ : refused)
      if (encoding !== 'EUC_JP') assert.match(await ask(`select what from "${CUT}"`), /D:in 31/)
      assert.match(await ask("select 'É „ß“' is null where 'a' = 'b'"), /C:SELECT 0|E:22P05/)
      // Two bytes of UTF-8 may be three there, so that these are over what the server keeps.
      const named = await answer(parse('é'.repeat(31), 'select 1'), sync())
      assert.equal(named, encoding === 'EUC_JP' ? 'E:0A000 ZI' : '1 ZI')
      // The server writes names out whole that the parser would cut.
      if (encoding === 'LATIN1') {
        rig.state.guardrails = [{ deny: [{ postgres: 'any', tables: [`public.${WHOLE}`] }] }]
        assert.match(await ask('select what from a_view'), refused)
      }
      raw.end()
    } finally {
      await rig.stop()
    }
  })

test('which names may be others, by what the database keeps', () => {
  const of = (sql: string) =>
    ['UTF8', 'LATIN1', 'WIN1252', 'SQL_ASCII', 'EUC_KR', 'unknown'].filter((encoding) => otherNames(traitsOf(sql), encoding)).join()
  assert.equal(of("select x, 'É', $$É$$ /* É */ from t -- É"), '')
  assert.equal(of('select é from straße'), 'SQL_ASCII,EUC_KR,unknown')
  assert.equal(of('select É from t'), 'LATIN1,WIN1252,SQL_ASCII,EUC_KR,unknown')
  assert.equal(of('select "É" from "aé""b"'), 'EUC_KR,unknown')
  assert.equal(of(`select "${WHOLE}"`), 'LATIN1,WIN1252,SQL_ASCII,EUC_KR,unknown')
  assert.equal(of(`select "${'""'.repeat(30)}é"`), 'EUC_KR,unknown')
  assert.equal(of('select u&"\\00e9"'), 'LATIN1,WIN1252,SQL_ASCII,EUC_KR,unknown')
  assert.equal(of(`select ${'a'.repeat(200)}`), '')
})
