import assert from 'node:assert/strict'
import { mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { called, connect, type Place, toolNames } from './clients.ts'
import { NotInstalled } from './on-demand.ts'
import { EVERYTHING, openThrough } from './through.ts'

/** A server that somebody else wrote, and one call that shows that it works. */
export interface Driven {
  readonly name: string
  /** Throws NotInstalled where it cannot be had. `dir` is a folder of its own. */
  command(dir: string): Promise<readonly string[]>
  env?(dir: string): Readonly<Record<string, string>>
  prepare?(dir: string): Promise<void>
  readonly tool: {
    readonly name: string
    readonly args: Readonly<Record<string, unknown>> | ((dir: string) => Readonly<Record<string, unknown>>)
    readonly says: RegExp
  }
}

const bin = fileURLToPath(new URL('../../bin/chaperone.js', import.meta.url))

/** One test for each server: its list is the same through Chaperone as directly, and its tool answers, in both eras, over HTTP and through the shim. */
export function drive(servers: readonly Driven[]): void {
  for (const server of servers) {
    test(`${server.name} lists and answers through Chaperone: both eras, over HTTP and through the shim`, async (t) => {
      const dir = await realpath(await mkdtemp(join(tmpdir(), 'chaperone-driven-')))
      t.after(() => rm(dir, { recursive: true, force: true, maxRetries: 10 }))
      let command: readonly string[]
      try {
        command = await server.command(dir)
      } catch (error) {
        if (error instanceof NotInstalled) return t.skip(error.message)
        throw error
      }
      await server.prepare?.(dir)
      const env = server.env?.(dir) ?? {}
      const { name, says } = server.tool
      const args = typeof server.tool.args === 'function' ? server.tool.args(dir) : server.tool.args

      const own = await connect(t, 'legacy', { command, env: { PATH: process.env.PATH ?? '', ...env } })
      const direct = await toolNames(own)
      assert.match(await called(own, name, args), says)
      await own.close()

      const spec = JSON.stringify({ command, env, isolation: 'none' })
      const through = await openThrough(`${EVERYTHING}---\nkind: mcp\nname: ${server.name}\nspec: ${spec}\n`)
      t.after(() => through.close())
      const shim = [process.execPath, bin, 'mcp', 'connect', server.name, '--client', 'driven']
      const places: Readonly<Record<string, Place>> = {
        http: { url: (await through.open(server.name)).url },
        shim: { command: shim, env: { PATH: process.env.PATH ?? '', CHAPERONE_HOME: through.home } },
      }
      for (const [way, place] of Object.entries(places)) {
        for (const era of ['legacy', 'modern'] as const) {
          const client = await connect(t, era, place)
          assert.deepEqual(await toolNames(client), direct, `${way}, ${era}`)
          assert.match(await called(client, name, args), says, `${way}, ${era}`)
          await client.close()
        }
      }
    })
  }
}
