import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import pg from 'pg'
import { startPostgres } from '../demo/postgres.ts'
import { toChaperoneError } from '../errors.ts'
import { chainsSuite } from './chains-suite.ts'

const dir = await mkdtemp(join(tmpdir(), 'chaperone-chains-'))
const server = await startPostgres({ dir: join(dir, 'postgres'), settings: { max_connections: '300' } }).catch(toChaperoneError)
after(async () => {
  if ('stop' in server) await server.stop()
  await rm(dir, { recursive: true, force: true })
})

const place = async () => {
  if (!('stop' in server)) throw server
  const name = `chains_${randomBytes(6).toString('hex')}`
  const client = new pg.Client({ connectionString: server.superuserUrl })
  await client.connect()
  await client.query(`create database ${name}`)
  await client.end()
  return { url: server.superuserUrl.replace(/\/postgres$/, `/${name}`) }
}

chainsSuite('SQLite', async () => ({ dataDir: await mkdtemp(join(dir, 'store-')) }))
chainsSuite('PostgreSQL', place, 'stop' in server ? {} : { skip: `no PostgreSQL here: ${server.message} ${server.fix ?? ''}` })
