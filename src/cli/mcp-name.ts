import { packageOf } from '../catalog/package-runner.ts'

/** Words that say that it is a server, not which one. */
const NOISE = new Set(['mcp', 'server', 'www', 'api', 'index', 'main', 'dist', 'build', 'src', 'bin', 'lib', 'cli', 'run', 'start', 'app'])

/** A name to propose for a server, from its address or its command; `server` when neither says anything. */
export function proposeName(source: { readonly url: string } | { readonly command: readonly string[] }): string {
  const words = 'url' in source ? wordsOfUrl(source.url) : wordsOfCommand(source.command)
  for (const word of words) {
    const name = word
      .toLowerCase()
      .split(/[^a-z0-9]+/)
      .filter((part) => part !== '' && !NOISE.has(part))
      .join('-')
      .slice(0, 40)
      .replace(/-+$/, '')
    // Only digits are a port, or a version.
    if (/[a-z]/.test(name)) return name
  }
  return 'server'
}

function wordsOfUrl(text: string): string[] {
  const { hostname, pathname } = new URL(text)
  const path = pathname.split('/')
  if (/^[\d.]+$|^\[/.test(hostname) || hostname === 'localhost') return path
  const labels = hostname.split('.')
  // `mcp.linear.app`: what the company is called, without the ending that everybody has.
  return [...labels.slice(0, Math.max(1, labels.length - 1)).reverse(), ...path]
}

function wordsOfCommand(command: readonly string[]): string[] {
  const wanted = packageOf(command)
  if (wanted) {
    const [scope, name] = wanted.name.startsWith('@') ? wanted.name.slice(1).split('/') : [undefined, wanted.name]
    return [name ?? '', scope ?? '']
  }
  const [program = '', ...args] = command
  const runner = program.split('/').at(-1) ?? ''
  if (!/^(?:node|bun|deno|python[\d.]*|uv|sh|bash|docker|podman|java)$/.test(runner)) return [runner]
  const script = args[0] === '-m' ? args[1] : args.find((arg) => !arg.startsWith('-') && arg !== 'run')
  // `node /opt/notes/dist/index.js` is about notes.
  const segments = (script ?? '').replace(/\.[cm]?[jt]s$|\.py$|\.jar$|[:@][^/]*$/, '').split('/')
  return segments.reverse()
}
