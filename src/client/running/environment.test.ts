import assert from 'node:assert/strict'
import { test } from 'node:test'
import { environmentOf, looksSecret } from './environment.ts'

const PERSON = {
  PATH: '/usr/bin',
  LANG: 'de_DE.UTF-8',
  LC_TIME: 'C',
  TERM: 'xterm',
  PWD: '/srv',
  EDITOR: 'vi',
  AWS_SECRET_ACCESS_KEY: 'aws',
  AWS_PROFILE: 'prod',
  GITHUB_TOKEN: 'ghp',
  DATABASE_URL: 'postgres://u:p@h/d',
  SSH_AUTH_SOCK: '/tmp/agent',
  DB_PASS: 'p',
  STRIPE_APIKEY: 's',
  SENTRY_DSN: 'd',
  npm_config__authToken: 'n',
  ANTHROPIC_API_KEY: 'model',
  CHAPERONE_TOTP: '123456',
  CHAPERONE_HOME: '/home/boris/.config/chaperone',
}

test('rule 5: the clean environment of an agent has nothing of its parent but what a program needs to start and speak', () => {
  const { env, stripped } = environmentOf({ from: PERSON, keep: 'clean', ours: { CHAPERONE_RUN: 'one' }, base: { HOME: '/run/home' } })
  assert.deepEqual(env, { PATH: '/usr/bin', LANG: 'de_DE.UTF-8', LC_TIME: 'C', TERM: 'xterm', HOME: '/run/home', CHAPERONE_RUN: 'one' })
  assert.deepEqual(stripped, [])
})

test('stripped, all that looks like a credential is gone, except what the program needs for its model, and it is named', () => {
  const { env, stripped } = environmentOf({ from: PERSON, keep: 'strip', needs: [/^ANTHROPIC_/], ours: {} })
  assert.deepEqual(Object.keys(env).sort(), ['ANTHROPIC_API_KEY', 'EDITOR', 'LANG', 'LC_TIME', 'PATH', 'PWD', 'TERM'])
  assert.ok(stripped.includes('AWS_PROFILE') && stripped.includes('npm_config__authToken'))
})

test('stripped, what says which authorities to believe stays: in a company network nothing reaches its model without', () => {
  const from = {
    SSL_CERT_FILE: '/etc/ssl/company.pem',
    NODE_EXTRA_CA_CERTS: '/etc/ssl/company.pem',
    AWS_CA_BUNDLE: '/etc/ssl/company.pem',
    TLS_CERT: 'pem',
  }
  const { env, stripped } = environmentOf({ from, keep: 'strip', ours: {} })
  assert.deepEqual([Object.keys(env).sort(), stripped], [['AWS_CA_BUNDLE', 'NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE'], ['TLS_CERT']])
})

test('kept, everything is there but what is Chaperone’s own: who runs inside is somebody else', () => {
  const { env } = environmentOf({ from: PERSON, keep: 'keep', ours: {} })
  assert.equal(env.AWS_SECRET_ACCESS_KEY, 'aws')
  assert.deepEqual(
    Object.keys(env).filter((name) => name.startsWith('CHAPERONE_')),
    [],
  )
})

test('what is given by name comes from the person, with a value as it is written, and never in the place of what is ours', () => {
  const given = ['EDITOR', 'MODE=fast=very', 'NOT_THERE', 'CHAPERONE_SOCKET=/evil']
  const { env, absent } = environmentOf({ from: PERSON, keep: 'clean', given, ours: { CHAPERONE_SOCKET: '/ours' } })
  assert.equal(env.EDITOR, 'vi')
  assert.equal(env.MODE, 'fast=very')
  assert.equal(env.CHAPERONE_SOCKET, '/ours')
  assert.deepEqual(absent, ['NOT_THERE'])
})

test('names of credentials are known as such, and those that only sound like it are not', () => {
  for (const name of [
    'MY_API_KEY',
    'TOKEN',
    'X_AUTH',
    'PGPASSWORD',
    'KUBECONFIG',
    'SLACK_WEBHOOK_URL',
    'client_secret',
    'GOOGLE_APPLICATION_CREDENTIALS',
  ])
    assert.ok(looksSecret(name), name)
  for (const name of ['PWD', 'OLDPWD', 'EDITOR', 'HOME', 'KEYBOARD', 'XDG_SESSION_ID', 'AUTHOR', 'PASSAGE', 'MONKEY', 'DISPLAY'])
    assert.ok(!looksSecret(name), name)
})
