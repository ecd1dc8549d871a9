import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { applyDocuments } from './apply.ts'
import { openHouse } from './house.fixture.ts'
import { InvalidDocuments } from './plan.ts'
import { readDocuments } from './read.ts'

const written = (spec: string, name = 'ops') => `kind: notifier\nname: ${name}\nspec:\n  ${spec.trim().replaceAll('\n', '\n  ')}\n`
const webhook = (url: string, more = '') => written(`on: [request.made]\nwebhook: { url: "${url}", secret: hook${more} }`)
const smtp = (text: string) => written(`on: [request.made]\nmail: { to: [a@example.com], from: b@example.com, smtp: { ${text} } }`)

const PEM_FAULT = 'This is not a certificate in PEM.'

test('a notifier is checked when it is written, with the place of the fault and how to mend it', async (t) => {
  const { parts } = await openHouse(t)
  const first = (text: string) => {
    const [problem] = readDocuments([{ path: 'a.yaml', text }], parts.kinds).problems
    return problem && `${problem.line}:${problem.column} ${problem.message}`
  }
  const plain = 'Without TLS nothing leaves this machine.'
  const never = 'This address is link-local, the metadata service of a cloud, or no receiver at all.'
  for (const [text, expected] of [
    [webhook('https://hooks.example.com/x'), undefined],
    [webhook('http://127.0.0.1:8080/', ', insecure: true'), undefined],
    [webhook('http://localhost:8080/'), '5:19 This is not encrypted.'],
    [webhook('http://hooks.example.com/', ', insecure: true'), `5:19 ${plain}`],
    [webhook('http://10.0.0.1/', ', insecure: true'), `5:19 ${plain}`],
    [webhook('https://169.254.169.254/'), `5:19 ${never}`],
    [webhook('https://[::ffff:169.254.169.254]/'), `5:19 ${never}`],
    [webhook('https://user:pass@hooks.example.com/'), '5:19 A password stands in the address, where everybody who sees the document reads it.'],
    [webhook('https://hooks.example.com/#x'), '5:19 What stands behind `#` is never sent.'],
    [webhook('https://hooks.example.com/', ', insecure: true'), /`insecure` does nothing here/],
    [webhook('https://hooks.example.com/', ', ca: nonsense'), new RegExp(PEM_FAULT)],
    [webhook('https://hooks.example.com/', ', timeout: 10m'), /write a time between 1s and 30s/],
    [webhook('file:///etc/passwd'), /webhook\.url/],
    [written('on: [request.maid]\nslack: { url: { secret: x } }'), /^4:8 .*nothing is called `request.maid`/],
    [written('on: ["request.**"]\nslack: { url: { secret: x } }'), /is not a pattern/],
    [written('on: []\nslack: { url: { secret: x } }'), /on/],
    [written('on: [request.made]\nslack: { url: "https://hooks.slack.com/services/x" }'), /slack\.url/],
    [written('on: [request.made]'), /write exactly one of/],
    [written('on: [request.made]\nslack: { url: { secret: x } }\nwebhook: { url: "https://a.example/", secret: hook }'), /write exactly one of/],
    [smtp('host: smtp.example.com'), undefined],
    [smtp('host: smtp.example.com, tls: none, insecure: true'), new RegExp(plain)],
    [smtp('host: localhost, tls: none'), /This is not encrypted/],
    [smtp('host: localhost, tls: none, insecure: true'), undefined],
    [smtp('host: localhost, tls: none, insecure: true, user: a, password: { secret: b }'), /No password is sent without TLS/],
    [smtp('host: smtp.example.com, user: a'), /A login has both/],
    [smtp('host: 169.254.169.254'), new RegExp(never)],
    [smtp('host: "a.example:25"'), /write a host without a port/],
    [written('on: [request.made]\nmail: { to: ["a@b, c@d"], from: b@example.com, smtp: { host: h } }'), /write an address/],
    [written('on: [request.made]\nmail: { to: approvers, from: "x\\r\\nBcc: y@example.com", smtp: { host: h } }'), /write an address/],
  ] as const) {
    const found = first(text)
    if (expected instanceof RegExp) assert.match(found ?? '', expected, text)
    else assert.equal(found, expected, text)
  }
})

const apply = async (t: TestContext, verbs: readonly ('apply' | 'secrets' | 'audit.read')[], text: string, before?: string) => {
  const house = await openHouse(t)
  if (before !== undefined) await applyDocuments(house.parts, house.by(), house.parse(before))
  return applyDocuments(house.parts, house.by(...verbs), house.parse(text)).then(
    ({ warnings }) => warnings.map(({ message }) => message),
    (error: unknown) => {
      assert.ok(error instanceof InvalidDocuments)
      return error.problems.map(({ level, message }) => `${level}: ${message}`)
    },
  )
}

const chat = written('on: [request.made]\nslack: { url: { secret: chat } }')
const MISSING = 'There is no secret `chat` yet; nothing can be sent without it.'

test('who decides where a secret is sent needs the verb for secrets, also for a change of anything about it', async (t) => {
  const [error] = (await apply(t, ['apply'], chat)).filter((problem) => problem.startsWith('error'))
  assert.match(error ?? '', /^error: Where a secret is sent is a matter of `secrets`/)
  assert.deepEqual(await apply(t, ['apply', 'secrets'], chat), [MISSING])
  const wider = chat.replace('request.made', 'request.made, lock.made')
  assert.match((await apply(t, ['apply'], wider, chat)).join(), /Where a secret is sent/)
  assert.deepEqual(await apply(t, ['apply'], chat, chat), [MISSING])
  assert.deepEqual(await apply(t, ['apply'], smtp('host: smtp.example.com')), [])
})

test('who sends out what approvers are shown needs the verb to read the record', async (t) => {
  const full = `${smtp('host: smtp.example.com')}  detail: full\n`
  const [error] = await apply(t, ['apply'], full)
  assert.match(error ?? '', /^error: What others ask for, in full, is a matter of `audit.read`/)
  assert.deepEqual(await apply(t, ['apply', 'audit.read'], full), [])
})

test('roles that are not there, too many notifiers, and what can never be told are found', async (t) => {
  const roles = written('on: [request.made]\nfor: { approvers: [admni] }\nmail: { to: approvers, from: b@example.com, smtp: { host: h } }')
  assert.match((await apply(t, ['apply'], roles)).join(), /There is no role `admni`/)
  const locks = written('on: [lock.made]\nmail: { to: approvers, from: b@example.com, smtp: { host: h } }')
  assert.deepEqual(await apply(t, ['apply'], locks), ['Nobody approves a lock, so nobody is written to of one.'])
  const many = Array.from({ length: 33 }, (_, i) => smtp('host: h').replace('name: ops', `name: n${String(i).padStart(2, '0')}`)).join('---\n')
  assert.deepEqual(
    (await apply(t, ['apply'], many)).filter((problem) => problem.startsWith('error')),
    ['error: There are 33 notifiers, and 32 at the most.'],
  )
})
