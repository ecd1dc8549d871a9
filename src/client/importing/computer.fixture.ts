import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ServerWish } from '../../api/mcp-contract.ts'
import type { Place } from '../config/types.ts'
import type { Catalog, KnownSecret } from './bring.ts'

/** A computer whose clients have servers with secrets, in every form, and a catalog in memory: for tests. */
export const SECRETS = [
  'ghp_0123456789abcdefghijABCDEFGHIJ456789',
  'correct-horse-battery-staple',
  'sk-ant-REDACTED',
  'lin_api_0123456789abcdefABCDEF0123456789abcd',
]

export async function computer(test: { after(work: () => Promise<void>): void }): Promise<Place> {
  const home = await mkdtemp(join(tmpdir(), 'importing-'))
  test.after(() => rm(home, { recursive: true, force: true }))
  await fill(home)
  return { home, env: {}, platform: 'linux' }
}

export async function fill(home: string): Promise<void> {
  const [github, password, anthropic, linear] = SECRETS
  const put = async (path: string, text: string) => {
    const file = join(home, path)
    await mkdir(join(file, '..'), { recursive: true })
    await writeFile(file, text, { mode: 0o600 })
  }
  const gh = { command: 'npx', args: ['-y', '@modelcontextprotocol/server-github'], env: { GITHUB_PERSONAL_ACCESS_TOKEN: github } }
  await put(
    '.claude.json',
    JSON.stringify(
      {
        numStartups: 3,
        mcpServers: { github: gh },
        projects: { '/srv/x': { mcpServers: { db: { command: 'pg', env: { DB_PASSWORD: password } } } } },
      },
      null,
      2,
    ),
  )
  await put(
    '.cursor/mcp.json',
    `// mine\n{\n  "mcpServers": {\n    "github": ${JSON.stringify(gh)}, // the same\n    "plain": { "url": "https://plain.example/mcp" },\n  },\n}\n`,
  )
  await put(
    '.codex/config.toml',
    `# mine\nmodel = "o3"\n\n[mcp_servers.helper]\ncommand = "helper"\n\n[mcp_servers.helper.env]\nANTHROPIC_API_KEY = "${anthropic}"\n`,
  )
  await put(
    '.config/Code/User/mcp.json',
    JSON.stringify({ servers: { linear: { type: 'http', url: 'https://mcp.linear.example/mcp', headers: { Authorization: `Bearer ${linear}` } } } }),
  )
}

export interface FakeCatalog extends Catalog {
  readonly vault: Map<string, string>
  readonly documents: Map<string, ServerWish>
  /** secrets that were put there by an import */
  readonly own: Set<string>
}

export const knownSecrets = (names: Iterable<string>, own: ReadonlySet<string>, documents: Iterable<ServerWish>): readonly KnownSecret[] => {
  const used = JSON.stringify([...documents])
  return [...names].map((name) => ({ name, own: own.has(name), used: used.includes(`{"secret":${JSON.stringify(name)}}`) }))
}

export function fakeCatalog(more: { readonly hidden?: readonly string[] } = {}): FakeCatalog {
  const vault = new Map<string, string>()
  const documents = new Map<string, ServerWish>()
  const own = new Set<string>()
  return {
    vault,
    documents,
    own,
    visible: async () => [...documents.keys()].filter((name) => !more.hidden?.includes(name)),
    document: async (name) => documents.get(name),
    secrets: async () => knownSecrets(vault.keys(), own, documents.values()),
    async putSecret(name, value) {
      vault.set(name, value)
      own.add(name)
    },
    deleteSecret: async (name) => void vault.delete(name),
    async add(wish) {
      documents.set(wish.name, wish)
      return true
    },
  }
}
