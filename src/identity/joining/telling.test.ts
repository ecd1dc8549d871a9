import assert from 'node:assert/strict'
import { test } from 'node:test'
import { githubSubject } from './telling.ts'

test('a `sub` of GitHub tells whose it is only where the owner is written out in it', () => {
  for (const tells of [
    'repo:octo/app:ref:refs/heads/main',
    'repo:octo/app:*',
    'repo:octo/*',
    'environment:prod:repository_owner:octo',
    'repository_owner:octo:*',
    'repository_id:12345',
  ])
    assert.ok(githubSubject(tells), tells)
  for (const anybody of [
    'environment:prod',
    'job_workflow_ref:octo/app/.github/workflows/x.yml@refs/heads/main',
    'repo:*',
    'repo:oct*/app',
    'repository_owner:oct*',
    '*repo:octo/app',
    'environment:*:repo:octo/app',
    'workflow:repository_owner',
  ])
    assert.ok(!githubSubject(anybody), anybody)
})
