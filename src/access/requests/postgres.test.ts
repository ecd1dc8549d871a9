import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import pg from 'pg'
import { startPostgres } from '../../demo/postgres.ts'
import { toChaperoneError } from '../../errors.ts'
import { accessSuite } from './access-suite.ts'
import { answersSuite } from './answers-suite.ts'
import { callsSuite } from './calls-suite.ts'
import { modelSuite } from './model-suite.ts'
import { seenSuite } from './seen-suite.ts'
import { waitingSuite } from './waiting-suite.ts'

const dir = await mkdtemp(join(tmpdir(), 'chaperone-requests-'))
const server = await startPostgres({ dir, settings: { max_connections: '300' } }).catch(toChaperoneError)
after(async () => {
  if ('stop' in server) await server.stop()
  await rm(dir, { recursive: true, force: true })
})

const place = async () => {
  if (!('stop' in server)) throw server
  const name = `requests_${randomBytes(6).toString('hex')}`
  const client = new pg.Client({ connectionString: server.superuserUrl })
  await client.connect()
  await client.query(`create database ${name}`)
  await client.end()
  return { url: server.superuserUrl.replace(/\/postgres$/, `/${name}`) }
}

const options = 'stop' in server ? {} : { skip: `no PostgreSQL here: ${server.message} ${server.fix ?? ''}` }

callsSuite('PostgreSQL', place, options)
waitingSuite('PostgreSQL', place, options)
accessSuite('PostgreSQL', place, options)
answersSuite('PostgreSQL', place, options)
seenSuite('PostgreSQL', place, options)
modelSuite('PostgreSQL', place, { ...options, runs: 5 })
