import type pg from 'pg'
import { BYPASSES } from './bypasses.ts'
import { condition } from './steps-governed.ts'
import type { Teller } from './story.ts'
import type { World } from './world.ts'

/** The same, with a real PostgreSQL client over the wire protocol; `client` stands at the end of `chaperone db proxy`. */
export async function withADatabaseClient(teller: Teller, world: World, client: pg.Client): Promise<void> {
  teller.chapter(
    '3. A real PostgreSQL client',
    'boris-ai uses a database driver. Chaperone parses each statement with PostgreSQL’s own parser before the server sees it.',
  )
  const before = await condition(world)

  await teller.step('it reads', 'rows come back; the database knows on whose behalf', async () => {
    const { rows } = await client.query("SELECT count(*)::int AS count, current_setting('application_name') AS who FROM customers")
    return {
      observed: `${rows[0]?.count} rows; application_name is ${rows[0]?.who}`,
      ok: rows[0]?.count === 50 && /boris/.test(String(rows[0]?.who)),
    }
  })

  await teller.step(
    `it tries the same ${BYPASSES.length} ways to write`,
    'every one is refused with SQLSTATE 42501 and a reason; the connection lives on',
    async () => {
      const through: string[] = []
      let example: { message?: string; detail?: string; hint?: string } = {}
      for (const bypass of BYPASSES) {
        try {
          await client.query(bypass.sql)
          through.push(`${bypass.name} (ran)`)
        } catch (error) {
          const refusal = refusalOf(error)
          if (refusal !== '42501') through.push(`${bypass.name} (${refusal})`)
          else example = error as typeof example
        }
      }
      const alive = (await client.query('SELECT 1 AS one')).rows[0]?.one === 1
      const after = await condition(world)
      return {
        observed: `${BYPASSES.length - through.length} of ${BYPASSES.length} refused; ${after}; the connection ${alive ? 'lives' : 'is dead'}${through.length > 0 ? `; not refused: ${through.join(', ')}` : ''}`,
        ok: through.length === 0 && alive && after === before,
        lines: [example.message, example.detail, example.hint].filter((line) => line !== undefined),
      }
    },
  )

  await teller.step('a refusal inside a transaction', 'behaves as an error of the server: nothing more runs until ROLLBACK', async () => {
    await client.query('BEGIN')
    const refused = await client.query('DELETE FROM customers').then(() => 'ran', refusalOf)
    const aborted = await codeOf(client.query('SELECT 1'))
    await client.query('ROLLBACK')
    const { rows } = await client.query('SELECT 1 AS one')
    return {
      observed: `DELETE: ${refused}; then SELECT: ${aborted}; after ROLLBACK: ${rows[0]?.one}`,
      ok: refused === '42501' && aborted === '25P02' && rows[0]?.one === 1,
    }
  })
}

/** The code of a refusal by Chaperone. The database's own rights are a second fence with the same code, and not what is shown here. */
function refusalOf(error: unknown): string {
  const { code = 'cut', message } = error as { code?: string; message: string }
  return message.startsWith('Chaperone') ? code : `${code} of the database itself`
}

export const codeOf = (running: Promise<unknown>): Promise<string> =>
  running.then(
    () => 'ran',
    (error: { code?: string; message: string }) => error.code ?? error.message,
  )
