/** npm run build: src/ to dist/, what `npm pack` ships. Node does not strip types under node_modules, so a package needs JavaScript. */
import { spawnSync } from 'node:child_process'
import { existsSync, globSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { root } from './bootstrap.mjs'

const dist = join(root, 'dist')
rmSync(dist, { recursive: true, force: true })
const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
const compiled = spawnSync(process.execPath, [compiler, '-p', join(root, 'tsconfig.build.json')], { cwd: root, stdio: 'inherit' })
if (compiled.status !== 0) process.exit(compiled.status ?? 1)

// The compiler rewrites `./x.ts` in imports, but not in `new URL('./worker.ts', import.meta.url)`, by which worker threads are found.
const reference = /new URL\((['"])(\.{1,2}\/[^'"]+)\.ts\1, import\.meta\.url\)/g
for (const file of globSync('**/*.js', { cwd: dist })) {
  const path = join(dist, file)
  const text = readFileSync(path, 'utf8')
  const fixed = text.replace(reference, (_, quote, target) => {
    if (!existsSync(resolve(dirname(path), `${target}.js`))) throw new Error(`${file} names ${target}.ts, which is not built`)
    return `new URL(${quote}${target}.js${quote}, import.meta.url)`
  })
  if (fixed !== text) writeFileSync(path, fixed)
}
