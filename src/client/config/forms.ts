import { join } from 'node:path'
import { chatgpt } from './chatgpt.ts'
import { claudeCode } from './claude-code.ts'
import { claudeDesktop } from './claude-desktop.ts'
import { codex } from './codex.ts'
import { cursor } from './cursor.ts'
import { gemini } from './gemini.ts'
import { thisPlace } from './places.ts'
import type { Client, ClientForm, Entry, Format, Place } from './types.ts'
import { vscode } from './vscode.ts'
import { windsurf } from './windsurf.ts'
import { zed } from './zed.ts'

export const FORMS: Readonly<Record<Client, ClientForm>> = {
  'claude-code': claudeCode,
  'claude-desktop': claudeDesktop,
  cursor,
  vscode,
  windsurf,
  zed,
  codex,
  gemini,
  chatgpt,
}

/** Which file a client reads this user's MCP servers from; undefined where it has none. */
export const configFile = (client: Client, place: Place = thisPlace()): string | undefined => FORMS[client].file?.(place)

/** The text of that file with the entries set, everything else as it was. Throws `unsupported` where it cannot be told so in a file. */
export function configText(client: Client, text: string, entries: readonly Entry[]): string {
  const { format, value } = FORMS[client]
  return entries.reduce((soFar, entry) => format.set(soFar, entry.name, value(entry)), text)
}

/** A file that a client reads servers from, there or not. */
export interface Source {
  readonly client: Client
  readonly file: string
  readonly format: Format
  /** the folder of the project that it belongs to */
  readonly project?: string
}

/** Every file of every client: this user's, and those of the project folders. */
export function sources(place: Place, projects: readonly string[] = []): readonly Source[] {
  return (Object.entries(FORMS) as [Client, ClientForm][]).flatMap(([client, form]): Source[] => {
    const own = form.file ? [{ client, file: form.file(place), format: form.format }] : []
    const also = (form.also?.(place) ?? []).map(({ file, format }) => ({ client, file, format: format ?? form.format }))
    const shared =
      form.project === undefined ? [] : projects.map((project) => ({ client, file: join(project, form.project!), format: form.format, project }))
    return [...own, ...also, ...shared]
  })
}
