import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, get } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fakeAuthority } from '../../test/fakes/authority.ts'
import { ChaperoneError } from '../errors.ts'
import { believed, believeMore } from './authorities.ts'

test('an extra authority is believed by every connection outwards from then on, beside those of before', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'authorities-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const company = await fakeAuthority('company')
  const { key, chain } = await company.issue(['localhost'])
  const server = createServer({ key, cert: chain }, (_, response) => response.end('ok')).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => void server.close())
  const { port } = server.address() as AddressInfo
  const reach = () =>
    new Promise<number | undefined>((resolve, reject) => {
      get({ host: 'localhost', port, agent: false }, (answer) => resolve(answer.resume().statusCode)).once('error', reject)
    })
  await assert.rejects(reach(), /self.signed|unable to/i)
  const file = join(dir, 'company.pem')
  await writeFile(file, `a comment\n${company.certificate}`)
  believeMore([])
  await assert.rejects(reach(), /self.signed|unable to/i)
  believeMore([file])
  assert.equal(await reach(), 200)
  assert.ok(
    believed().some((pem) => pem.trim() === company.certificate.trim()),
    'also where a document names one of its own',
  )
})

test('a file without a certificate is refused, by its name', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'authorities-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const file = join(dir, 'empty.pem')
  await writeFile(file, 'nothing')
  for (const wrong of [file, join(dir, 'none.pem')])
    assert.throws(
      () => believeMore([wrong]),
      (error) => error instanceof ChaperoneError && error.code === 'usage' && error.message.includes(wrong),
    )
})
