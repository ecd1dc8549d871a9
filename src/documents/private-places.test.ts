import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crossCheck } from './resolve.ts'
import { makeWorld } from './world.ts'

const warned = (kind: string, spec: Readonly<Record<string, unknown>>): readonly string[] => {
  const document = { kind, name: 'x', labels: {}, spec }
  const agent = { id: 'agt_1', name: 'bot', kind: 'agent', state: 'active', roles: [] } as never
  const world = makeWorld({
    documents: new Map([[`${kind}/x`, document]]),
    identities: new Map([['bot', agent]]),
    sealed: new Set(),
    confirmed: new Set(),
    arrived: new Set(),
  })
  return crossCheck(world)
    .filter(({ level, fix }) => level === 'warning' && /allow_private: true/.test(fix ?? ''))
    .map(({ path }) => path.join('.'))
}

test('an issuer in a private network that nobody allowed is told to the one who applies it, with the line that allows it', () => {
  const join = (oidc: object) => warned('join', { agent: 'bot', method: 'oidc', oidc })
  for (const issuer of ['https://10.1.2.3', 'https://[fd00::1]:8443/realms/x', 'http://localhost:8080', 'https://192.168.0.9/'])
    assert.deepEqual([join({ issuer }), warned('directory', { issuer })], [['spec.oidc.issuer'], ['spec.issuer']], issuer)
  for (const issuer of ['https://idp.example.com', 'https://1.1.1.1', 'no address'])
    assert.deepEqual([join({ issuer }), warned('directory', { issuer })], [[], []], issuer)
  assert.deepEqual(join({ issuer: 'https://10.1.2.3', allow_private: true }), [])
  assert.deepEqual(join({ issuer: 'https://10.1.2.3', jwks: { keys: [] } }), [], 'its keys are pinned: it is not asked')
  const kubernetes = { issuer: 'https://kubernetes.default.svc.cluster.local', api: 'https://10.96.0.1' }
  assert.deepEqual(warned('join', { agent: 'bot', method: 'kubernetes', kubernetes }), ['spec.kubernetes.api'])
  assert.deepEqual(warned('directory', { issuer: 'https://10.1.2.3', allow_private: false }), ['spec.issuer'])
})
