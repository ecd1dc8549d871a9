import { globSync, readFileSync } from 'node:fs'
import { BYPASSES } from './bypasses.ts'

const folder = new URL('reads/', import.meta.url)

/** Files of ordinary statements: the first line says where they are from, `--;` stands between them. */
export const READ_FILES: readonly string[] = globSync('*.sql', { cwd: folder.pathname }).sort()

export const statementsOf = (file: string): readonly string[] =>
  readFileSync(new URL(file, folder), 'utf8')
    .split(/^--;$/m)
    .slice(1)
    .map((text) => text.trim())

/** What mutations start from: all that is known to be read, and all that is known to have got past others. */
export const CORPUS: readonly string[] = [...READ_FILES.flatMap(statementsOf), ...BYPASSES.flatMap(({ texts }) => texts)]
