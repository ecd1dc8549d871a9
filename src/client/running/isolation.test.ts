import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decideFence, probeAbility } from './isolation.ts'

const ABLE = { bwrap: '/usr/bin/bwrap', sized: true } as const
const UNABLE = { why: 'bwrap: No permissions to create new namespace' }

test('where bubblewrap works it is used, with the network that is usual for who runs', () => {
  assert.deepEqual(decideFence({ isolation: 'auto', usual: 'chaperone' }, ABLE), { how: 'bubblewrap', network: 'chaperone' })
  assert.deepEqual(decideFence({ isolation: 'auto', usual: 'open' }, ABLE), { how: 'bubblewrap', network: 'open' })
  assert.deepEqual(decideFence({ isolation: 'auto', network: 'chaperone', usual: 'open' }, ABLE), { how: 'bubblewrap', network: 'chaperone' })
})

test('where it does not work, a line says why and what to do, and what was asked for by name is refused', () => {
  const fence = decideFence({ isolation: 'auto', usual: 'chaperone' }, UNABLE)
  assert.equal(fence.how, 'none')
  assert.match(fence.note!.text, /No permissions to create new namespace/)
  assert.match(fence.note!.fix, /apt install bubblewrap/)
  assert.throws(() => decideFence({ isolation: 'bubblewrap', usual: 'open' }, UNABLE), { code: 'isolation_unavailable' })
  assert.throws(() => decideFence({ isolation: 'auto', network: 'chaperone', usual: 'open' }, UNABLE), { code: 'isolation_unavailable' })
})

test('without isolation no promise is made about the network', () => {
  assert.throws(() => decideFence({ isolation: 'none', network: 'chaperone', usual: 'chaperone' }, ABLE), { code: 'isolation_unavailable' })
  assert.deepEqual(decideFence({ isolation: 'none', usual: 'chaperone' }, ABLE), { how: 'none', network: 'open' })
})

test('a bubblewrap that knows no sizes is used, and what that means is said; a size that was asked for by name is refused there', () => {
  const old = { bwrap: '/usr/bin/bwrap' }
  const fence = decideFence({ isolation: 'auto', usual: 'chaperone' }, old)
  assert.equal(fence.how, 'bubblewrap')
  assert.match(`${fence.note!.text} ${fence.note!.fix}`, /half of the memory.*0\.7\.0/)
  for (const ability of [old, UNABLE])
    assert.throws(() => decideFence({ isolation: 'auto', usual: 'open', size: 1 }, ability), { code: 'isolation_unavailable' })
  assert.throws(() => decideFence({ isolation: 'none', usual: 'open', size: 1 }, ABLE), { code: 'isolation_unavailable' })
  assert.equal(decideFence({ isolation: 'auto', usual: 'open', size: 1 }, ABLE).note, undefined)
})

test('elsewhere than on Linux there is none, and that is said', async () => {
  assert.match((await probeAbility('darwin')).why ?? '', /Linux/)
})
