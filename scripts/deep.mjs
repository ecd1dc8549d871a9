/** npm run test:deep: what takes longer than CI has. The whole suite on every Node that we promise, then the properties with many runs. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { atLeast, bringNode, NODE_FLOOR, root } from './bootstrap.mjs'

const VERSIONS = [NODE_FLOOR, '26.10.0']

let failures = 0
const step = (title, nodeBinary, args) => {
  console.log(`\n== ${title}`)
  const run = spawnSync(nodeBinary, args, { cwd: root, stdio: 'inherit', env: { ...process.env, CHAPERONE_DEEP: '1' } })
  if (run.status !== 0) failures++
}

for (const version of VERSIONS) {
  const nodeBinary = process.version === `v${version}` ? process.execPath : await bringNode(version)
  step(`npm test on Node ${version}`, nodeBinary, [join(root, 'scripts', 'test.mjs')])
}
if (!atLeast(process.version, NODE_FLOOR)) throw new Error('run this through npm run test:deep')
step('properties', process.execPath, [join(root, 'scripts', 'fuzz.mjs'), '20000'])
console.log(failures === 0 ? '\nall passed' : `\n${failures} steps failed`)
process.exitCode = failures === 0 ? 0 : 1
