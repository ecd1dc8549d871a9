import { readFile } from 'node:fs/promises'
import { stripTypeScriptTypes } from 'node:module'
import { fileURLToPath } from 'node:url'

/** The folder of all our modules: `src` of a checkout, `dist` of a package. */
const ROOT = new URL('../../', import.meta.url)
const OURS = import.meta.url.endsWith('.ts') ? 'ts' : 'js'

const SPECIFIER = /(\bfrom\s*|^import\s*|\bimport\(\s*)(['"])([^'"\n]+)\2/gm

/**
 * A module and all that it imports, as JavaScript: path below the root -> text. A module that needs a package is refused: what
 * is carried to other computers is all our own.
 */
export async function modulesOf(entry: string): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>()
  const waiting = [new URL(`${entry}.${OURS}`, ROOT)]
  for (let url = waiting.pop(); url; url = waiting.pop()) {
    const name = url.href.slice(ROOT.href.length).replace(/\.ts$/, '.js')
    if (found.has(name)) continue
    const here = url
    const source = await readFile(fileURLToPath(here), 'utf8')
    const script = OURS === 'ts' ? withoutTypes(source) : source
    const text = script.replace(SPECIFIER, (whole, before: string, quote: string, target: string) => {
      if (target.startsWith('node:')) return whole
      if (!target.startsWith('.')) throw new Error(`${name} imports ${target}, which a bundle does not carry`)
      waiting.push(new URL(target, here))
      return `${before}${quote}${target.replace(/\.ts$/, '.js')}${quote}`
    })
    found.set(name, text)
  }
  return found
}

/** Of a checkout; what is published has none. Node tells everybody who does this that it may change, and here there is a test. */
function withoutTypes(source: string): string {
  const { emitWarning } = process
  process.emitWarning = () => {}
  try {
    return stripTypeScriptTypes(source)
  } finally {
    process.emitWarning = emitWarning
  }
}
