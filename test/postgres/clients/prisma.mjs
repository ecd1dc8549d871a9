// Prisma 7 with its driver adapter; the client was generated into FOLDER by the test.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const { env } = process
const require = createRequire(env.PACKAGES)
const { PrismaPg } = require('@prisma/adapter-pg')
const { PrismaClient } = await import(pathToFileURL(env.CLIENT).href)
const ssl =
  env.PGSSLMODE === 'disable'
    ? false
    : { ca: readFileSync(env.PGSSLROOTCERT), cert: readFileSync(env.PGSSLCERT), key: readFileSync(env.PGSSLKEY), servername: 'localhost' }
const adapter = new PrismaPg({
  host: env.PGHOST,
  port: Number(env.PGPORT),
  user: env.PGUSER,
  database: env.PGDATABASE,
  password: env.PGPASSWORD,
  ssl,
})
const prisma = new PrismaClient({ adapter })
const said = {}
said.read = await prisma.customers.count()
said.refused = await prisma.$executeRawUnsafe('DROP TABLE customers').then(
  () => 'not refused',
  (error) => `${error.meta?.code ?? error.meta?.driverAdapterError?.cause?.originalCode ?? ''} ${error.message.replaceAll('\n', ' ')}`,
)
said.prepared = (await prisma.customers.findUnique({ where: { id: 2 } })).name
await prisma
  .$transaction(async (inside) => {
    await inside.orders.create({ data: { customer: 1, total: 5 } })
    said.inside = await inside.orders.count()
    throw new Error('enough')
  })
  .catch((error) => {
    if (error.message !== 'enough') throw error
  })
said.after = await prisma.orders.count()
await prisma.$disconnect()
console.log(JSON.stringify(said))
