/** They run a package that they fetch; the others do with this word first. */
const RUNNERS = new Set(['npx', 'bunx', 'pnpx', 'uvx'])
const RUNNERS_BY_WORD: Readonly<Record<string, string>> = { npm: 'exec', pnpm: 'dlx', yarn: 'dlx' }

/** The package that a package runner fetches and runs, and its version when one is written. */
export function packageOf(command: readonly string[]): { readonly name: string; readonly version?: string } | undefined {
  const [program = '', ...args] = command
  const runner = program.split('/').at(-1) ?? ''
  const words = RUNNERS.has(runner) ? args : RUNNERS_BY_WORD[runner] === args[0] && args.length > 0 ? args.slice(1) : undefined
  if (!words) return undefined
  const flagged = words.findIndex((word) => word === '-p' || word === '--package' || word === '--from')
  const written = flagged >= 0 ? words[flagged + 1] : words.find((word) => !word.startsWith('-'))
  if (written === undefined) return undefined
  const [, name = written, version] = /^(@?[^@=]+)(?:@|==)(.+)$/.exec(written) ?? []
  return { name, ...(version === undefined || version === 'latest' ? {} : { version }) }
}
