import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { runningRig, start } from './rig.ts'

const skip = process.env.CHAPERONE_DEEP ? false : 'waits out the shortest life of a certificate, 30 s: npm run test:deep'

test('under a program that goes on, certificate and key are replaced together at each renewal, and both doors stay open past the first end', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const rig = await runningRig(t)
  const script = `
    last=; n=0
    until test $n -ge 3; do
      dir=$(readlink -f $CHAPERONE_SVID_DIR/..data)
      if test "$dir" != "$last"; then
        last=$dir; n=$((n+1))
        a=$(openssl x509 -in $dir/svid.pem -noout -pubkey | sha256sum); b=$(openssl pkey -in $dir/svid_key.pem -pubout | sha256sum)
        test "$a" = "$b" && echo pair $n || echo torn $n
      fi
      sleep 0.2
    done
    sleep 5
    curl -s -o /dev/null -w 'works %{http_code}\\n' --unix-socket $CHAPERONE_SOCKET http://x/v1/whoami`
  const run = start(
    t,
    ['agent', 'run', '--as', 'first', '--ttl', '30s', '--isolation', 'none', '--join', await rig.token('first'), '--', 'sh', '-c', script],
    {
      home: join(rig.dir, 'nobody'),
      cwd: rig.work,
    },
  )
  assert.equal(await run.ended, 0, run.err())
  assert.match(run.out(), /pair 1\npair 2\npair 3\nworks 200/)
})
