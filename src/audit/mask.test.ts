import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lintSource } from '@secretlint/core'
import { creator as recommended } from '@secretlint/secretlint-rule-preset-recommend'
import fc from 'fast-check'
import { spentMs } from '../encoding/spent.fixture.ts'
import { formsOf } from './known-secrets.ts'
import { createMasker } from './mask.ts'

const masker = createMasker()
const b64 = (text: string) => Buffer.from(text).toString('base64')
const fill = (length: number, alphabet = 'a1B2c3D4e5F6g7H8') => alphabet.repeat(Math.ceil(length / alphabet.length)).slice(0, length)
const pem = (kind: string) => `-----BEGIN ${kind}-----\nMIIE${fill(300, 'QUJDREVGR0hJSktM')}\n-----END ${kind}-----`

/** Obvious fakes, put together here so that no scanner of repositories takes this file for a leak. The secret part, and a text around it. */
const FAKES: readonly (readonly [name: string, secret: string, text?: (secret: string) => string])[] = [
  ['aws-access-key', `AKIA${fill(16, 'ABCD1234')}`],
  ['secret', fill(40), (s) => `AWS_SECRET_ACCESS_KEY=${s}`],
  ['secret', fill(40), (s) => `{"secretAccessKey":"${s}"}`],
  ['github-token', `ghp_${fill(36)}`],
  ['github-token', `gho_${fill(36)}`],
  ['github-token', `ghs_${fill(36)}`],
  ['github-token', `github_pat_${fill(82)}`],
  ['gitlab-token', `glpat-${fill(20)}`],
  ['slack-token', `xoxb-${fill(12, '1234')}-${fill(24)}`],
  ['slack-token', `xapp-1-${fill(10)}-${fill(12, '1234')}-${fill(30)}`],
  ['slack-webhook', `T${fill(8, 'A1')}/B${fill(8, 'A1')}/${fill(24)}`, (s) => `https://hooks.slack.com/services/${s}`],
  ['anthropic-key', `sk-ant-api03-${fill(93)}AA`],
  ['openai-key', `sk-${fill(20)}T3BlbkFJ${fill(20)}`],
  ['openai-key', `sk-proj-${fill(74)}T3BlbkFJ${fill(74)}`],
  ['stripe-key', `sk_live_${fill(24)}`],
  ['google-key', `AIza${fill(35)}`],
  ['npm-token', `npm_${fill(36)}`],
  ['npm-token', fill(36), (s) => `//registry.example.org/:_authToken=${s}`],
  ['pypi-token', `pypi-${fill(60)}`],
  ['docker-token', `dckr_pat_${fill(27)}`],
  ['sendgrid-key', `SG.${fill(22)}.${fill(43)}`],
  ['shopify-token', `shpat_${fill(32, '0a1b2c3d')}`],
  ['groq-key', `gsk_${fill(52)}`],
  ['huggingface-token', `hf_${fill(34, 'abcDEF')}`],
  ['linear-key', `lin_api_${fill(40)}`],
  ['notion-token', `ntn_${fill(11, '123')}${fill(35)}`],
  ['grafana-token', `glsa_${fill(32)}_${fill(8, '0a1b')}`],
  ['grafana-token', `glc_${fill(60)}`],
  [
    '1password-token',
    `ops_ey${b64(JSON.stringify({ signInAddress: 'x', userAuth: { method: 'y' }, email: 'e', srpX: 'x', muk: {}, secretKey: 'k', throttleSecret: {}, deviceUuid: 'd' })).slice(2)}`,
  ],
  ['vault-token', `hvs.${fill(95)}`],
  ['vercel-token', `vcp_${fill(56)}`],
  ['databricks-token', `dapi${fill(32, '0a1b2c3d')}`],
  ['figma-token', `figd_${fill(43)}`],
  ['cloudflare-token', `cfut_${fill(40)}${fill(8, '0a1b')}`],
  ['tailscale-key', `tskey-auth-${fill(12)}-${fill(32)}`],
  ['digitalocean-token', `dop_v1_${fill(64, '0a1b2c3d')}`],
  ['age-key', `AGE-SECRET-KEY-1${fill(58, 'QPZRY9X8')}`],
  ['private-key', pem('PRIVATE KEY')],
  ['private-key', pem('RSA PRIVATE KEY')],
  ['private-key', pem('EC PRIVATE KEY')],
  ['private-key', pem('OPENSSH PRIVATE KEY').replace('MIIE', 'b3BlbnNzaC1rZXktdjE')],
  ['jwt', `eyJ${fill(20)}.eyJ${fill(60)}.${fill(43)}`],
  ['url-password', 'fake-hunter-2', (s) => `postgres://app:${s}@db.example.org:5432/shop`],
  ['url-password', 'p@ss:w0rd?', (s) => `postgresql://app:${s}@db.example.org/shop`],
  ['url-password', 'fakehunter2', (s) => `mysql://app:${s}@db.example.org/shop`],
  ['url-password', 'fakehunter2', (s) => `mongodb+srv://app:${s}@db.example.org/shop`],
  ['url-password', 'fakehunter2', (s) => `https://app:${s}@www.example.org/`],
  ['url-password', fill(40), (s) => `https://${s}@git.example.org/x.git`],
  ['url-password', `${fill(40)}:x-oauth-basic`, (s) => `https://${s}@github.com/x/y`],
  ['bearer-token', fill(40), (s) => `curl -H "X: Bearer ${s}"`],
  ['authorization', b64('boris:fakehunter2'), (s) => `Authorization: Basic ${s}`],
  ['authorization', 'opaque', (s) => `{"authorization":"${s}"}`],
  ['cookie', 'sid=abc; theme=dark', (s) => `Cookie: ${s}`],
  ['url-signature', fill(43), (s) => `https://x.blob.core.windows.net/c?sv=2026&sig=${s}`],
  ['password', 'correct horse, battery', (s) => `password = "${s}"`],
  ['password', "it''s me", (s) => `ALTER ROLE app WITH ENCRYPTED PASSWORD '${s}' VALID UNTIL 'infinity'`],
  ['password', 'hunter2', (s) => `PGPASSWORD=${s} psql -h db`],
  ['password', 'hunter2', (s) => `host=db user=app password=${s} dbname=shop`],
  ['password', 'with \\\\\\" quote', (s) => `{"text":"{\\"password\\": \\"${s}\\", \\"x\\": 1}"}`],
  ['password', 'pàss wörd', (s) => `passphrase: "${s}"`],
  ['password', 'hunter2', (s) => `--form 'password%3D${s}&x=1'`],
  ['token', 'abc123', (s) => `https://example.org/cb?access_token=${s}&state=1`],
  ['secret', 'abc123', (s) => `client_secret: '${s}'`],
  ['key', 'abc123', (s) => `x-api-key: ${s}`],
]

test('rule 5: every kind of secret in the table is masked, and the text around it stays (peers R72).', () => {
  for (const [name, secret, around = (s: string) => `before ${s} after`] of FAKES) {
    assert.deepEqual(masker.text(around(secret)), { value: around(`[masked:${name}]`), count: 1 }, around(secret))
  }
})

test('rule 5: a secret is masked inside of JSON text, behind an escape, too.', () => {
  for (const [, secret, around = (s: string) => `before\n${s}\nafter`] of FAKES) {
    for (const text of [JSON.stringify({ a: around(secret) }), JSON.stringify({ a: JSON.stringify({ b: around(secret) }) })]) {
      const { value, count } = masker.text(text)
      assert.ok(count > 0 && !value.includes(JSON.stringify(secret).slice(1, -1)), value)
    }
  }
})

test('What secretlint finds, ours finds.', async () => {
  let known = 0
  for (const [, secret, around = (s: string) => `value ${s}\n`] of FAKES) {
    const content = around(secret)
    const { messages } = await lintSource({
      source: { content, filePath: 'fake.txt', ext: '.txt', contentType: 'text' },
      options: { config: { rules: [{ id: '@secretlint/secretlint-rule-preset-recommend', rule: recommended }] } },
    })
    if (messages.length === 0) continue
    known++
    const masked = masker.text(content)
    assert.ok(masked.count > 0, `${messages[0]!.ruleId} finds something in ${content}`)
    assert.ok(!masked.value.includes(secret), masked.value)
  }
  assert.ok(known >= 35, `secretlint knows only ${known} of the fakes: the corpus or the way it is called is wrong`)
})

test('What is no secret stays as it is.', () => {
  const harmless = [
    'SELECT id, token_count FROM topsecret.public.customers WHERE password = $1 AND token = ? AND secret IS NULL',
    '{"type":"object","properties":{"password":{"type":"string"},"token":{"type":"string"}},"max_tokens":100}',
    '{"database":"topsecret","name":"customers"}',
    'A risk-assessment-of-the-whole-enterprise, a task-force-for-everything and the bearer of good news',
    'spiffe://example.org/agent/boris https://example.org:8443/path?x=1 postgres://db.example.org/shop git@github.com',
    'password: true, secret: null, token=$1, api_key={{vault.key}} pwd=%s passwd: <your password>',
    '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----',
    'per_01kae7gxyz0123456789abcdef ses_01kae7gxyz0123456789abcdef 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
  ]
  for (const text of harmless) assert.deepEqual(masker.text(text), { value: text, count: 0 })
})

test('rule 5: a known secret is masked in ten forms, wherever it stands.', () => {
  const secret = 'Zaq1/xsw2+"ü\\n\'%'
  const own = createMasker()
  own.add([secret, 'other-value'])
  const places: Record<string, string> = {
    plain: secret,
    json: JSON.stringify({ a: secret }),
    'json in json': JSON.stringify({ a: JSON.stringify({ b: secret }) }),
    base64: b64(secret),
    'base64 of user:secret': b64(`u:${secret}`),
    'base64 of user:secret, shifted': b64(`us:${secret}!`),
    base64url: Buffer.from(`x${secret}yz`).toString('base64url'),
    percent: encodeURIComponent(secret),
    form: new URLSearchParams({ v: secret }).toString(),
    hex: Buffer.from(secret).toString('hex'),
    HEX: Buffer.from(secret).toString('hex').toUpperCase(),
    sql: `SELECT '${secret.replaceAll("'", "''")}'`,
  }
  for (const [place, text] of Object.entries(places)) {
    const { value, count } = own.text(`<${text}>`)
    assert.equal(count, 1, place)
    assert.match(value, /\[masked:secret\]/, place)
    // Of base64, up to two characters at each edge hold bits of the neighbours too and may stay.
    for (const form of formsOf(secret)) assert.ok(!value.includes(form), place)
  }
  assert.ok(own.bytes(Buffer.from(`\0\xff${secret}`)).count === 1, 'binary')
})

test('A short known secret is masked only where it stands alone.', () => {
  const own = createMasker()
  own.add(['root', ''])
  assert.equal(own.text('as root: chroot /root-dir rooted').value, 'as [masked:secret]: chroot /[masked:secret]-dir rooted')
})

test('Of any text, no known secret is left over, and clean text is not touched.', () => {
  const secrets = fc.array(fc.string({ minLength: 6, maxLength: 20, unit: 'grapheme-ascii' }), { minLength: 1, maxLength: 8 })
  fc.assert(
    fc.property(secrets, fc.array(fc.string({ unit: 'grapheme-ascii' })), fc.nat(), (values, noise, pick) => {
      const own = createMasker()
      own.add(values)
      const secret = values[pick % values.length]!
      const text = noise.join(secret)
      const { value, count } = own.text(text)
      const left = value.replaceAll(/\[masked:[a-z0-9-]+\]/g, '\u0001')
      for (const one of values) assert.ok(!left.includes(one), `${JSON.stringify(one)} in ${value}`)
      if (count === 0) assert.equal(value, text)
      if (own.bytes(Buffer.from(text)).count > 0) assert.ok(own.suspects(Buffer.from(text)))
    }),
  )
})

test('Values of a JSON value are masked one by one, keys and named ones too.', () => {
  const token = `ghp_${fill(36)}`
  const { value, count } = masker.value({
    a: [token, 1, null],
    [token]: 1,
    [`${token}x`]: 2,
    password: 'x',
    pin: { token: 5 },
    deep: { clientSecret: ['q'] },
    ok: 'fine',
    __proto__: null,
  })
  assert.deepEqual(value, {
    a: ['[masked:github-token]', 1, null],
    '[masked:github-token]': 1,
    '[masked:github-token]#2': 2,
    password: '[masked:secret]',
    pin: { token: '[masked:secret]' },
    deep: { clientSecret: ['[masked:secret]'] },
    ok: 'fine',
  })
  assert.equal(count, 6)
})

test('rule 11: a text made to be slow is masked in linear time.', () => {
  const own = createMasker()
  own.add(Array.from({ length: 300 }, (_, i) => `postgres://${'a'.repeat(40)}${i}`))
  const seeds = [
    'eyJ',
    'eyJ.',
    'password="',
    'password=\\"',
    "passwd='",
    'token=',
    '://',
    '://a:',
    '://a@',
    'sk-',
    'bearer ',
    'cookie: ',
    '-----BEGIN PRIVATE KEY-----',
    'SG.',
    'postgres://aaa',
    'a',
  ]
  for (const seed of seeds) {
    const bytes = Buffer.from(seed.repeat(Math.ceil(262_144 / seed.length)))
    const start = spentMs()
    own.bytes(bytes)
    const took = spentMs() - start
    // Measured: 2 to 50 ms. What is quadratic takes minutes.
    assert.ok(took < 1500, `${seed}: ${took} ms`)
  }
})

test('A thousand known secrets are ready at once and cost little.', () => {
  const own = createMasker()
  own.add(Array.from({ length: 1000 }, (_, i) => `${i}-${fill(24)}-${i * 7919}`))
  const start = spentMs()
  own.bytes(Buffer.from('x'))
  const built = spentMs() - start
  assert.ok(built < 1500, `${built} ms to build`)
  assert.equal(own.bytes(Buffer.from(`... ${Buffer.from(`500-${fill(24)}-${500 * 7919}`).toString('base64')} ...`)).count, 1)
})
