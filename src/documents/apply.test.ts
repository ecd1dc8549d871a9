import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { VERBS } from '../access/administration.ts'
import { ChaperoneError } from '../errors.ts'
import { findIdentity, setIdentityState } from '../identity/directory.ts'
import { addAccount } from '../signin/directory/accounts.ts'
import { applyDocuments, deleteDocument, exactChange, removal } from './apply.ts'
import { openHouse } from './house.fixture.ts'
import { getDocument, listDocuments } from './list.ts'
import { InvalidDocuments, type Wish } from './plan.ts'

const BORIS = 'kind: user\nname: boris\nspec:\n  roles: [developer]\n  traits: { team: data }\n'
const DEVELOPER = 'kind: role\nname: developer\nspec:\n  allow:\n    - mcp: files\n      tools: ["read_*"]\n'
const FILES = 'kind: mcp\nname: files\nlabels: { env: dev }\nspec:\n  command: [npx, server-filesystem]\n'
const WORLD = [BORIS, DEVELOPER, FILES, 'kind: agent\nname: report-bot\nspec: { owner: boris, roles: [developer] }\n'].join('---\n')

/** What went wrong, as a person reads it. */
async function faults(work: Promise<unknown>): Promise<string[]> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  assert.ok(error instanceof InvalidDocuments, String(error))
  return error.problems
    .filter((problem) => problem.level === 'error')
    .map(({ file, line, column, message, fix }) => `${file}:${line}:${column}: ${message} ${fix ?? ''}`.trim())
}

async function applied(t: TestContext) {
  const house = await openHouse(t)
  await applyDocuments(house.parts, house.by(), house.parse(WORLD))
  return house
}

test('an apply makes documents and identities in one epoch and waits until it is confirmed', async (t) => {
  const { parts, store, records, confirmed, by, parse } = await openHouse(t)
  const before = await store.epoch()
  const result = await applyDocuments(parts, by(), parse(WORLD))
  assert.deepEqual(
    result.changes.map(({ op, kind, name }) => `${op} ${kind}/${name}`),
    ['create user/boris', 'create role/developer', 'create mcp/files', 'create agent/report-bot'],
  )
  assert.equal(result.epoch, before + 1)
  assert.deepEqual(confirmed, [before + 1])
  const boris = await findIdentity(store.db, { name: 'boris' })
  const bot = await findIdentity(store.db, { name: 'report-bot' })
  assert.deepEqual(boris?.roles, ['developer'])
  assert.deepEqual(boris?.traits, { team: 'data' })
  assert.equal(bot?.ownerId, boris?.id)
  const row = await store.db.selectFrom('documents').select('id').where('name', '=', 'boris').executeTakeFirstOrThrow()
  assert.equal(row.id, boris?.id)
  assert.equal(records.length, 1)
  assert.equal(records[0]?.type, 'documents.applied')
  assert.match(String(records[0]?.bodies?.[0]?.bytes), /create user\/boris\n@@ -0,0 \+1,\d @@\n\+kind: user/)
})

test('the second apply of the same documents changes nothing: no epoch, no record', async (t) => {
  const { parts, store, records, by, parse } = await applied(t)
  const epoch = await store.epoch()
  const again = await applyDocuments(parts, by(), parse(WORLD))
  assert.ok(again.changes.every((change) => change.op === 'unchanged'))
  assert.equal(again.epoch, undefined)
  assert.equal(await store.epoch(), epoch)
  assert.equal(records.length, 1)
})

test('what comes back as YAML applies as unchanged', async (t) => {
  const { parts, store, by, parse } = await applied(t)
  const documents = await listDocuments(store.db, parts.kinds)
  const again = await applyDocuments(parts, by(), parse(documents.map((document) => document.yaml).join('---\n')))
  assert.deepEqual([...new Set(again.changes.map((change) => change.op))], ['unchanged'])
  assert.equal(
    (await getDocument(store.db, parts.kinds, 'mcp', 'files')).yaml,
    'kind: mcp\nname: files\nlabels:\n  env: dev\nspec:\n  command:\n    - npx\n    - server-filesystem\n',
  )
})

test('a diff shows what differs, and not in which order it was written or is stored', async (t) => {
  const { parts, by, parse } = await applied(t)
  const role = (max: string) => `kind: role
name: reporter
spec:
  allow:
    - { mcp: files, tools: [read_text] }
  request:
    - { role: reporter, max: ${max}, reason: required, approvers: { role: reporter } }
`
  await applyDocuments(parts, by(), parse(role('1h')))
  assert.equal(
    (await applyDocuments(parts, by(), parse(role('2h')), { dryRun: true })).changes[0]?.diff,
    `@@ -7,7 +7,7 @@
         - read_text
   request:
     - role: reporter
-      max: 1h
+      max: 2h
       reason: required
       approvers:
         role: reporter
`,
  )
})

test('a dry run says what would change, with a diff, and changes nothing', async (t) => {
  const { parts, store, records, by, parse } = await applied(t)
  const epoch = await store.epoch()
  const { changes } = await applyDocuments(parts, by(), parse(FILES.replace('dev', 'prod')), { dryRun: true })
  assert.deepEqual(changes, [
    {
      op: 'update',
      kind: 'mcp',
      name: 'files',
      diff: '@@ -1,7 +1,7 @@\n kind: mcp\n name: files\n labels:\n-  env: dev\n+  env: prod\n spec:\n   command:\n     - npx\n',
    },
  ])
  assert.equal(await store.epoch(), epoch)
  assert.equal(records.length, 1)
})

test('rule 3: when the record cannot be written, nothing is applied', async (t) => {
  const house = await openHouse(t)
  house.failRecords = new ChaperoneError('audit_unavailable', 'no space left')
  const epoch = await house.store.epoch()
  await assert.rejects(applyDocuments(house.parts, house.by(), house.parse(WORLD)), { code: 'audit_unavailable' })
  assert.equal(await house.store.epoch(), epoch)
  assert.equal(await findIdentity(house.store.db, { name: 'boris' }), undefined)
})

test('a change between the record and the commit is a conflict; both are in the record', async (t) => {
  const house = await applied(t)
  house.beforeCommit = async () => {
    house.beforeCommit = undefined
    await house.store.write((trx) => trx.updateTable('documents').set({ labels: '{"env":"stolen"}' }).where('name', '=', 'files').execute())
  }
  await assert.rejects(applyDocuments(house.parts, house.by(), house.parse(FILES.replace('dev', 'prod'))), { code: 'conflict' })
  assert.deepEqual((await getDocument(house.store.db, house.parts.kinds, 'mcp', 'files')).labels, { env: 'stolen' })
  assert.deepEqual(house.records.at(-1)?.outcome, { status: 'failed', reason: 'conflict' })
})

test('one fault anywhere, and nothing at all is applied', async (t) => {
  const { parts, store, by, parse } = await openHouse(t)
  await faults(applyDocuments(parts, by(), parse(`${WORLD}---\nkind: agent\nname: lost\nspec: { owner: nobody }\n`)))
  assert.equal(await findIdentity(store.db, { name: 'boris' }), undefined)
})

test('a role naming unknown things is refused, at the name, with what was probably meant', async (t) => {
  const { parts, by, parse } = await applied(t)
  const text = [
    'kind: role',
    'name: broken',
    'spec:',
    '  allow:',
    '    - mcp: fils',
    '      tools: any',
    '  ask:',
    '    - mcp: files',
    '      tools: [write_file]',
    '      approvers: { role: develper }',
    '      escalate: { after: 10m, approvers: { all: [{ users: [boris, report-bot] }, { role: develper }] } }',
    '  request:',
    '    - { role: prod-admin, max: 30m, approvers: { users: [borris] } }',
  ].join('\n')
  assert.deepEqual(await faults(applyDocuments(parts, by(), parse(text))), [
    'infra/a.yaml:5:12: There is no mcp resource `fils`. Did you mean `files`?',
    'infra/a.yaml:10:26: There is no role `develper`. Did you mean `developer`?',
    'infra/a.yaml:11:67: `report-bot` is no user, and only people approve. Known here: dana, boris.',
    'infra/a.yaml:11:90: There is no role `develper`. Did you mean `developer`?',
    'infra/a.yaml:13:15: There is no role `prod-admin`. Apply the role first, or together with this.',
    'infra/a.yaml:13:58: There is no user `borris`. Did you mean `boris`?',
  ])
})

test('users and agents that name unknown roles and owners are refused', async (t) => {
  const { parts, by, parse } = await applied(t)
  assert.deepEqual(await faults(applyDocuments(parts, by(), parse('kind: agent\nname: x\nspec:\n  owner: borris\n  roles: [developer, admn]\n'))), [
    'infra/a.yaml:5:22: There is no role `admn`. Did you mean `admin`?',
    'infra/a.yaml:4:10: There is no user `borris`. Did you mean `boris`?',
  ])
  assert.match(
    (await faults(applyDocuments(parts, by(), parse('kind: agent\nname: x\nspec: { owner: report-bot }\n'))))[0]!,
    /:3:16: The owner `report-bot` is no user but an agent/,
  )
  assert.match(
    (await faults(applyDocuments(parts, by(), parse('kind: user\nname: report-bot\nspec: {}\n'))))[0]!,
    /:2:7: The name `report-bot` belongs to an agent/,
  )
})

test('what selects nothing yet, waits for a secret, or can never fire is a warning', async (t) => {
  const { parts, by, parse } = await applied(t)
  const text =
    'kind: role\nname: later\nspec:\n  allow:\n    - mcp: { labels: { env: prod } }\n      tools: any\n    - mcp: "git-*"\n      tools: any\n    - mcp: files\n      tools: [read_x]\n  deny:\n    - mcp: files\n---\nkind: mcp\nname: git\nspec:\n  url: https://git.example/mcp\n  headers: { authorization: { secret: git-token } }\n'
  const { warnings } = await applyDocuments(parts, by(), parse(text))
  assert.deepEqual(
    warnings.map(({ line, column, message, level }) => `${level} ${line}:${column} ${message}`),
    [
      'warning 5:12 No mcp resource is selected here, so this rule can never fire.',
      'warning 7:12 No mcp resource is selected here, so this rule can never fire.',
      'warning 18:29 There is no secret `git-token` yet; the server cannot start without it.',
      'warning 9:7 It never fires: role later, deny rule 1 covers all of it.',
    ],
  )
})

test('deleting what others name is refused; deleting both is not', async (t) => {
  const { parts, store, by, parse } = await applied(t)
  assert.deepEqual(await faults(deleteDocument(parts, by(), 'user', 'boris')), [
    'agent/report-bot (applied earlier):1:1: The owner `boris` is deleted. Name an active user.',
  ])
  await deleteDocument(parts, by(), 'agent', 'report-bot')
  await deleteDocument(parts, by(), 'user', 'boris')
  assert.equal((await findIdentity(store.db, { name: 'boris' }))?.state, 'deleted')
  await assert.rejects(deleteDocument(parts, by(), 'user', 'boris'), { code: 'not_found' })
  assert.match(
    (await faults(applyDocuments(parts, by(), parse(BORIS))))[0]!,
    /:2:7: The name `boris` was used by an identity that was deleted; names are never used again/,
  )
})

test('prune removes what the owner applied before and nothing else', async (t) => {
  const { parts, store, by, parse } = await applied(t)
  const one = 'kind: mcp\nname: one\nspec: { command: [a] }\n'
  const two = 'kind: mcp\nname: two\nspec: { command: [a] }\n'
  await applyDocuments(parts, by(), parse(`${one}---\n${two}`), { owner: 'team-a' })
  const { changes } = await applyDocuments(parts, by(), parse(one), { owner: 'team-a', prune: true })
  assert.deepEqual(
    changes.map(({ op, name }) => `${op} ${name}`),
    ['unchanged one', 'delete two'],
  )
  assert.deepEqual(
    (await listDocuments(store.db, parts.kinds, 'mcp')).map(({ name, owner }) => [name, owner]),
    [
      ['files', undefined],
      ['one', 'team-a'],
    ],
  )
  await assert.rejects(applyDocuments(parts, by(), parse(one), { prune: true }), { code: 'usage' })
  const { warnings } = await applyDocuments(parts, by(), parse(one), { owner: 'team-b', dryRun: true })
  assert.match(warnings[0]!.message, /owned by `team-a`; `team-b` takes it over/)
})

test('the last administrator cannot be removed: not his role, not his document, not by a guardrail', async (t) => {
  const { parts, store, by, parse } = await applied(t)
  const last = /the last administrator cannot be removed/
  const adopted = 'kind: user\nname: dana\nspec: { roles: [admin] }\n'
  assert.match((await faults(applyDocuments(parts, by(), parse('kind: user\nname: dana\nspec: { roles: [auditor] }\n'))))[0]!, last)
  assert.match(
    (await faults(applyDocuments(parts, by(), parse('kind: role\nname: admin\nspec: { allow: [{ chaperone: any, verbs: [lock] }] }\n'))))[0]!,
    last,
  )
  assert.match(
    (await faults(applyDocuments(parts, by(), parse('kind: guardrail\nname: none\nspec: { deny: [{ chaperone: any, verbs: [apply] }] }\n'))))[0]!,
    last,
  )
  assert.match((await faults(deleteDocument(parts, by(), 'role', 'admin'))).join(), last)
  await applyDocuments(parts, by(), parse(adopted))
  assert.match((await faults(deleteDocument(parts, by(), 'user', 'dana')))[0]!, last)
  assert.match((await faults(applyDocuments(parts, by(), parse('kind: user\nname: dana\nspec: { roles: [admin], state: disabled }\n'))))[0]!, last)
  await applyDocuments(parts, by(), parse('kind: user\nname: eve\nspec: { roles: [admin] }\n'))
  await deleteDocument(parts, by(), 'user', 'dana')
  assert.equal((await findIdentity(store.db, { name: 'dana' }))?.state, 'deleted')
})

test('the last administrator cannot be removed with the directory whose groups made him one', async (t) => {
  const { parts, store, by, parse } = await applied(t)
  const boris = (await findIdentity(store.db, { name: 'boris' }))!
  await store.write((trx) => addAccount(trx, 'company', { userName: 'boris' }, boris, { data: '{}', groups: '["admins"]', now: parts.clock.now() }))
  const company = (roles: string) =>
    `kind: directory\nname: company\nspec: { issuer: 'https://id.example.com', client_id: x, create: true, roles: ${roles} }\n`
  await applyDocuments(parts, by(), parse(company('{ admins: [admin] }')))
  await applyDocuments(parts, by(), parse('kind: user\nname: dana\nspec: { roles: [developer] }\n'))
  const last = { code: 'conflict', message: /nobody would hold/ }
  await assert.rejects(deleteDocument(parts, by(), 'directory', 'company'), last)
  await assert.rejects(applyDocuments(parts, by(), parse(company('{ admins: [developer] }'))), last)
  assert.deepEqual((await findIdentity(store.db, { name: 'boris' }))?.roles, ['developer', 'admin'])
  await applyDocuments(parts, by(), parse('kind: user\nname: dana\nspec: { roles: [admin] }\n'))
  await deleteDocument(parts, by(), 'directory', 'company')
})

test('the last holder of any verb cannot be removed: nobody could give it back', async (t) => {
  const { parts, by, parse } = await applied(t)
  const bot =
    'kind: role\nname: applier\nspec: { allow: [{ chaperone: any, verbs: [apply] }] }\n---\nkind: agent\nname: pipeline\nspec: { owner: boris, roles: [applier] }\n'
  await applyDocuments(parts, by(), parse(bot))
  // The pipeline can still apply; everything else would be lost for ever.
  const pipeline = by('apply')
  const last = /nobody would hold `approve` of Chaperone any more/
  assert.match((await faults(applyDocuments(parts, pipeline, parse('kind: user\nname: dana\nspec: { roles: [] }\n'))))[0]!, last)
  const nothing = 'kind: role\nname: admin\nspec: { allow: [{ mcp: any, tools: any }] }\n'
  assert.match((await faults(applyDocuments(parts, pipeline, parse(nothing))))[0]!, last)
  const guardrail = 'kind: guardrail\nname: none\nspec: { deny: [{ chaperone: any, verbs: [lock] }] }\n'
  assert.match((await faults(applyDocuments(parts, pipeline, parse(guardrail))))[0]!, /nobody would hold `lock`/)
})

test('rule 5: who may apply cannot send a secret of the vault to a place of his own, nor start a program that reads our keys', async (t) => {
  const { parts, by, parse } = await applied(t)
  const pipeline = by('apply')
  const refused = async (text: string, who = pipeline) => (await faults(applyDocuments(parts, who, parse(text)))).join('\n')
  const web = 'kind: mcp\nname: web\nspec:\n  url: https://good.example/mcp\n  headers: { Authorization: { secret: key } }\n'
  assert.match(await refused(web), /:5:29: Where a secret is sent is a matter of `secrets`/)
  await applyDocuments(parts, by('apply', 'secrets'), parse(web))
  assert.match(await refused(web.replace('good', 'evil')), /`secrets`/, 'a known secret to another place')
  assert.equal((await applyDocuments(parts, pipeline, parse(web))).changes[0]?.op, 'unchanged')
  await applyDocuments(parts, pipeline, parse(web.replace('name: web\n', 'name: web\nlabels: { env: prod }\n')))

  const env = 'kind: mcp\nname: sh\nspec: { command: [env], env: { KEY: { secret: key } } }\n'
  assert.match(await refused(env), /`secrets`/)
  const bare = 'kind: mcp\nname: bare\nspec: { command: [sh], isolation: none }\n'
  assert.match(await refused(bare, by('apply', 'secrets')), /without isolation can read what is behind `ca`/)
  await applyDocuments(parts, by('apply', 'secrets', 'ca'), parse(bare))
  assert.match(await refused(bare.replace('[sh]', '[bash]')), /`ca`/)
  await applyDocuments(parts, pipeline, parse('kind: mcp\nname: tame\nspec: { command: [sh] }\n'))
})

test('rule 5: who may apply cannot send the login of a database to a server of his own', async (t) => {
  const { parts, by, parse } = await applied(t)
  const pipeline = by('apply')
  const refused = async (text: string) => (await faults(applyDocuments(parts, pipeline, parse(text)))).join('\n')
  const orders =
    'kind: postgres\nname: sealed\nspec:\n  address: good.example:5432\n  databases: [shop]\n  auth: { password: { app: { secret: key } } }\n'
  assert.match(await refused(orders), /:6:\d+: Where a database login is sent is a matter of `secrets`/)
  await applyDocuments(parts, by('apply', 'secrets'), parse(orders))
  assert.match(await refused(orders.replace('good', 'evil')), /`secrets`/, 'a known secret to another place')
  assert.match(await refused(orders.replace('secret: key', 'secret: other')), /`secrets`/, 'another secret')
  assert.match(await refused(`${orders}  tls: { ca: public }\n`), /`secrets`/, 'another server at the same address')
  await applyDocuments(parts, pipeline, parse(orders.replace('[shop]', '[shop, stock]')))
  assert.match(await refused(orders.replace(/auth: .*/, 'auth: { aws_iam: { region: eu-central-1 } }')), /:6:\d+: .*`secrets`/)
  await applyDocuments(parts, pipeline, parse(orders.replace(/ {2}auth: .*/, '')))
})

test('the first administrator keeps id and rights when a document names him', async (t) => {
  const { parts, store, dana, by, parse } = await applied(t)
  await applyDocuments(parts, by(), parse('kind: user\nname: dana\nspec: { roles: [admin], traits: { team: sre } }\n'))
  const known = await findIdentity(store.db, { name: 'dana' })
  assert.equal(known?.id, dana.id)
  assert.deepEqual(known?.traits, { team: 'sre' })
})

test('nobody grants what they do not have: not by a role, a holder, a trait, or by taking a denial away (peers R45)', async (t) => {
  const { parts, by, parse } = await applied(t)
  const all = by()
  await applyDocuments(
    parts,
    all,
    parse(
      [
        'kind: guardrail\nname: no-ca\nspec: { for: { kind: agent }, deny: [{ chaperone: any, verbs: [ca] }] }\n',
        'kind: role\nname: by-team\nspec: { allow: [{ chaperone: any, verbs: [lock], where: "identity.traits.team == \'sre\'" }] }\n',
        'kind: user\nname: zoe\nspec: { roles: [by-team], traits: { team: data } }\n',
      ].join('---\n'),
    ),
  )
  const junior = by('apply', 'audit.read')
  const refused = async (text: string) => (await faults(applyDocuments(parts, junior, parse(text)))).join('\n')
  assert.match(
    await refused('kind: role\nname: grab\nspec:\n  allow:\n    - chaperone: any\n      verbs: [apply, ca]\n'),
    /infra\/a.yaml:5:7: This role grants `ca` of Chaperone, which dana does not hold/,
  )
  assert.match(await refused('kind: role\nname: grab\nspec: { ask: [{ chaperone: any, verbs: any }] }\n'), new RegExp(`grants \`${VERBS[1]}\``))
  assert.match(
    await refused('kind: role\nname: way\nspec: { request: [{ role: admin, approvers: { role: developer } }] }\n'),
    /:3:27: The role `admin` gives .*`ca`/,
  )
  assert.match(await refused('kind: agent\nname: mine\nspec: { owner: boris, roles: [admin] }\n'), /:3:31: The role `admin` gives .*`ca`/)
  assert.match(
    await refused('kind: guardrail\nname: no-ca\nspec: { for: { names: report-bot }, deny: [{ chaperone: any, verbs: [ca] }] }\n'),
    /Without its deny rule this guardrail gives way to `ca`/,
  )
  assert.match(await refused('kind: user\nname: zoe\nspec: { roles: [by-team], traits: { team: sre } }\n'), /Traits decide over `lock`/)
  assert.match((await faults(deleteDocument(parts, junior, 'guardrail', 'no-ca'))).join(), /gives way to `ca`/)
  const fine = await applyDocuments(
    parts,
    junior,
    parse(
      'kind: role\nname: reader\nspec: { allow: [{ chaperone: any, verbs: [audit.read] }] }\n---\nkind: user\nname: rita\nspec: { roles: [reader, auditor] }\n',
    ),
  )
  assert.equal(fine.changes.length, 2)
})

test('somebody disabled by hand is not enabled by a pipeline that changes a trait', async (t) => {
  const { parts, store, clock, by, parse } = await applied(t)
  const boris = await findIdentity(store.db, { name: 'boris' })
  await store.reduce((trx) => setIdentityState(trx, boris!.id, 'disabled', clock.now()))
  const bot = 'kind: agent\nname: report-bot\nspec: { owner: boris, roles: [developer], state: disabled }\n'
  await applyDocuments(parts, by(), parse(`${BORIS.replace('data', 'ops')}---\n${bot}`))
  const after = await findIdentity(store.db, { name: 'boris' })
  assert.deepEqual([after?.state, after?.traits], ['disabled', { team: 'ops' }])
  await applyDocuments(parts, by(), parse(BORIS.replace('spec:', 'spec:\n  state: disabled')))
  await applyDocuments(parts, by(), parse(BORIS))
  assert.equal((await findIdentity(store.db, { name: 'boris' }))?.state, 'active')
})

test('nobody makes himself hard to remove: a verb that an administrator loses is not left to one alone, but by his own hand', async (t) => {
  const { parts, store, by, parse } = await applied(t)
  const apply = (text: string, who = by()) => applyDocuments(parts, who, parse(text))
  await apply('kind: user\nname: mallory\nspec: { roles: [admin] }\n---\nkind: user\nname: olga\nspec: { roles: [admin] }\n')
  const id = async (name: string) => (await findIdentity(store.db, { name }))!.id
  const mallory = { ...by(), actor: { id: await id('mallory'), name: 'mallory' } }
  const deny = (names: string, verb: string) =>
    `kind: guardrail\nname: mine\nspec: { for: { names: [${names}] }, deny: [{ chaperone: any, verbs: [${verb}] }] }\n`
  const alone = (verb: string) => new RegExp(`dana administers Chaperone and would lose \`${verb}\`, which mallory alone would keep`)
  // As long as somebody else has it too, it is no more than a rule.
  await apply(deny('olga', 'recording.read'), mallory)
  for (const verb of ['recording.read', 'lock', 'identities', 'apply'])
    assert.match((await faults(apply(deny('olga, dana', verb), mallory)))[0]!, alone(verb), verb)
  // Not through somebody who is made by the way, or is a tool of his.
  const puppet = `${deny('olga, dana', 'ca')}---\nkind: user\nname: puppet\nspec: { roles: [admin] }\n`
  assert.match((await faults(apply(puppet, mallory)))[0]!, alone('ca'))
  await apply('kind: agent\nname: tool-of-mallory\nspec: { owner: mallory, roles: [admin] }\n', mallory)
  assert.match((await faults(apply(deny('olga, dana', 'ca'), mallory)))[0]!, alone('ca'))
  // Not by a pipeline of whomever.
  const pipeline = { ...by(), actor: { id: await id('report-bot'), name: 'report-bot' } }
  assert.match((await faults(apply(deny('olga, dana', 'ca'), pipeline)))[0]!, alone('ca'))
  // Who loses it may give it up; and whoever loses administration altogether holds nothing up.
  await apply(deny('olga', 'ca'), mallory)
  await apply(deny('olga, dana', 'ca'))
  await apply('kind: user\nname: olga\nspec: { roles: [auditor] }\n', mallory)
  await apply('kind: user\nname: olga\nspec: { roles: [approver] }\n', mallory)
  // Who alone has a verb that administrators need cannot be locked: all the others can still be taken from her.
  await apply(deny('olga, dana', 'lock'))
  const others = VERBS.filter((verb) => verb !== 'lock' && verb !== 'ca').join(', ')
  await apply(deny('mallory', others).replace('name: mine', 'name: stop'))
})

test('rule 12: what somebody said yes to is done from the state that he saw, and from no other', async (t) => {
  const house = await applied(t)
  const { parts, by, parse, store, records } = house
  const other = FILES.replace('name: files', 'name: other')
  await applyDocuments(parts, by(), parse(other))
  const mine = parse(other.replace('npx', 'node'))
  const seen = async (wish: Wish) => (await exactChange(parts, by(), wish)).digest
  const approved = await seen({ documents: mine })
  const removed = await seen(removal('mcp', 'other'))
  await applyDocuments(parts, by(), parse(other.replace('env: dev', 'env: prod')))
  const [epoch, recorded] = [await store.epoch(), records.length]
  await assert.rejects(applyDocuments(parts, by(), mine, { approved }), { code: 'conflict', message: /What was approved has changed/ })
  await assert.rejects(deleteDocument(parts, by(), 'mcp', 'other', removed), { code: 'conflict', message: /What was approved has changed/ })
  assert.deepEqual([await store.epoch(), records.length], [epoch, recorded], 'nothing was done, and nothing is said to have been')
  const anew = await seen({ documents: mine })
  house.beforeCommit = async () => {
    house.beforeCommit = undefined
    await applyDocuments(parts, by(), parse(other))
  }
  await assert.rejects(applyDocuments(parts, by(), mine, { approved: anew }), { code: 'conflict' }, 'while it is being written')
  assert.equal((await applyDocuments(parts, by(), mine, { approved: await seen({ documents: mine }) })).changes[0]?.op, 'update')
})
