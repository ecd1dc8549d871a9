import { type Document, LineCounter, parseAllDocuments } from 'yaml'
import { near } from './near.ts'
import { offsetAt, plainValue } from './nodes.ts'
import type { DocumentKinds, Fault, ParsedDocument, Path, Place, Problem, SourceFile } from './types.ts'

/** Of one call: so that nobody keeps the process busy with parsing (rule 11). */
export const READ_LIMITS = { files: 1_000, fileBytes: 512 * 1024, totalBytes: 4 * 1024 * 1024, documents: 2_000, problems: 100 } as const

export interface Read {
  /** The valid documents, in the order they were written. */
  readonly documents: readonly ParsedDocument[]
  readonly problems: readonly Problem[]
}

/**
 * Reads what people wrote: several documents a file, every fault with file, line, column and fix. Only YAML 1.2 with the
 * core schema: `no`, `on`, `2026-11-22` are text. Nothing is repaired; a document with a fault is not in `documents`.
 */
export function readDocuments(files: readonly SourceFile[], kinds: DocumentKinds): Read {
  const documents: ParsedDocument[] = []
  const problems: Problem[] = []
  const seen = new Map<string, Place>()
  let bytes = 0
  const top = (file: SourceFile, message: string, fix?: string) =>
    problems.push({ file: file.path, line: 1, column: 1, level: 'error', message, ...(fix === undefined ? {} : { fix }) })

  for (const [i, file] of files.entries()) {
    if (i >= READ_LIMITS.files) {
      top(file, `More than ${READ_LIMITS.files} files at once.`, 'Apply them in parts.')
      break
    }
    const size = Buffer.byteLength(file.text)
    bytes += size
    if (size > READ_LIMITS.fileBytes) {
      top(file, `The file is larger than ${READ_LIMITS.fileBytes / 1024} KiB.`, 'Split it.')
      continue
    }
    if (bytes > READ_LIMITS.totalBytes) {
      top(file, `All files together are larger than ${READ_LIMITS.totalBytes / 1024 / 1024} MiB.`, 'Apply them in parts.')
      break
    }
    for (const found of readFile(file, kinds, problems)) {
      const key = `${found.kind}/${found.name}`
      const place = found.place(['name'])
      const first = seen.get(key)
      if (first) {
        problems.push({
          ...place,
          level: 'error',
          message: `${key} is there twice; the first is at ${first.file}:${first.line}.`,
          fix: 'Keep one of them.',
        })
        continue
      }
      seen.set(key, place)
      if (documents.length >= READ_LIMITS.documents) {
        problems.push({ ...place, level: 'error', message: `More than ${READ_LIMITS.documents} documents at once.`, fix: 'Apply them in parts.' })
        return { documents, problems }
      }
      documents.push(found)
    }
    if (problems.length > READ_LIMITS.problems) {
      const more = problems.length - READ_LIMITS.problems
      problems.length = READ_LIMITS.problems
      top(file, `At least ${more} more problems are not shown.`)
      break
    }
  }
  return { documents, problems }
}

function readFile(file: SourceFile, kinds: DocumentKinds, problems: Problem[]): ParsedDocument[] {
  const lines = new LineCounter()
  const at = (offset: number): Place => {
    const { line, col } = lines.linePos(offset)
    // An empty file has no lines; the counter then says 0.
    return { file: file.path, line: Math.max(1, line), column: Math.max(1, col) }
  }
  const parsed = parseAllDocuments(file.text, {
    version: '1.2',
    schema: 'core',
    strict: true,
    stringKeys: true,
    uniqueKeys: false,
    merge: false,
    prettyErrors: false,
    logLevel: 'silent',
    lineCounter: lines,
  })
  const found: ParsedDocument[] = []
  // An empty stream is an empty array that carries a `directives` field of its own.
  for (const document of parsed as readonly Document.Parsed[]) {
    const before = problems.length
    const say = (offset: number, message: string, fix?: string) =>
      problems.push({ ...at(offset), level: 'error', message, ...(fix === undefined ? {} : { fix }) })
    for (const error of [...document.errors, ...document.warnings]) say(error.pos[0], ...syntaxFault(error.code, error.message))
    const { yaml, tags } = document.directives
    if ((yaml.explicit && yaml.version !== '1.2') || Object.keys(tags).some((handle) => handle !== '!!')) {
      say(offsetAt(document, [], false), 'A %YAML or %TAG directive would change how the document is read.', 'Remove the directive.')
    }
    if (problems.length > before) continue
    const { value, faults } = plainValue(document)
    for (const fault of faults) say(fault.offset, fault.message, fault.fix)
    if (faults.length > 0 || (value === null && document.contents?.range?.[0] === document.contents?.range?.[1])) continue
    const place = (path: Path, atKey = false) => at(offsetAt(document, path, atKey))
    const one = shape(value, kinds, place, problems)
    if (one) found.push(one)
  }
  return found
}

const KEYS = ['kind', 'name', 'labels', 'spec']
const LABEL_LIMITS = { count: 32, key: /^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$/, value: 256 } as const

/** The common part of all documents; the spec is judged by its kind. */
function shape(value: unknown, kinds: DocumentKinds, place: ParsedDocument['place'], problems: Problem[]): ParsedDocument | undefined {
  const before = problems.length
  const say = (path: Path, message: string, fix?: string, atKey = false) =>
    problems.push({ ...place(path, atKey), level: 'error', message, ...(fix === undefined ? {} : { fix }) })

  if (!isRecord(value)) {
    say([], 'A document is a mapping with `kind`, `name` and `spec`.', 'Begin with `kind: role`, for example.')
    return undefined
  }
  for (const key of Object.keys(value)) if (!KEYS.includes(key)) say([key], `Unknown key \`${key}\`.`, near(key, KEYS), true)
  const { kind: kindName, name, labels = {}, spec } = value

  if (typeof kindName !== 'string') say(['kind'], '`kind` is missing.', `Known are: ${[...kinds.keys()].join(', ')}.`)
  const kind = typeof kindName === 'string' ? kinds.get(kindName) : undefined
  if (typeof kindName === 'string' && !kind)
    say(['kind'], `There is no kind \`${kindName.slice(0, 80)}\`.`, near(kindName.slice(0, 80), kinds.keys()))
  if (typeof name !== 'string') {
    if (name === undefined || name === null) say(['name'], '`name` is missing.', 'Add `name:`.')
    else say(['name'], '`name` must be text.', typeof name === 'object' ? undefined : `Write it in quotes: "${name}".`)
  } else {
    const fault = kind?.nameFault(name)
    if (fault !== undefined) say(['name'], fault)
  }
  for (const fault of labelFaults(labels)) say(['labels', ...fault.path], fault.message, fault.fix, fault.atKey)
  if (spec === undefined) say([], '`spec` is missing.', 'Add `spec:`.')
  else if (!isRecord(spec)) say(['spec'], '`spec` must be a mapping.')
  if (!kind || typeof name !== 'string' || !isRecord(spec)) return undefined

  const checked = kind.check(spec, name)
  for (const { path, message, fix, level = 'error', atKey } of checked.faults) {
    problems.push({ ...place(['spec', ...path], atKey), level, message, ...(fix === undefined ? {} : { fix }) })
  }
  if (!checked.spec || problems.slice(before).some((problem) => problem.level === 'error')) return undefined
  return { kind: kind.kind, name, labels: labels as Record<string, string>, spec: checked.spec, place }
}

function* labelFaults(labels: unknown): Generator<Fault> {
  if (!isRecord(labels)) return yield { path: [], message: '`labels` must be a mapping of names to text.' }
  if (Object.keys(labels).length > LABEL_LIMITS.count) yield { path: [], message: `More than ${LABEL_LIMITS.count} labels.` }
  for (const [key, value] of Object.entries(labels)) {
    if (!LABEL_LIMITS.key.test(key))
      yield { path: [key], atKey: true, message: `\`${key.slice(0, 80)}\` is no label name.`, fix: 'Use a-z, 0-9, . _ / and -, at most 63.' }
    if (typeof value !== 'string') {
      const fix = typeof value === 'object' ? undefined : `Write it in quotes: "${value}".`
      yield { path: [key], message: `The label \`${key}\` must be text.`, ...(fix === undefined ? {} : { fix }) }
    } else if (value.length > LABEL_LIMITS.value)
      yield { path: [key], message: `The label \`${key}\` is longer than ${LABEL_LIMITS.value} characters.` }
  }
}

/** The library's own words where they help, ours where they do not. */
function syntaxFault(code: string, message: string): [string, string?] {
  switch (code) {
    case 'RESOURCE_EXHAUSTION':
      return ['The document is nested too deep.']
    case 'TAB_AS_INDENT':
      return ['A tab is used for indentation.', 'Use spaces.']
    case 'TAG_RESOLVE_FAILED':
      return [message, 'Remove the tag.']
    case 'NON_STRING_KEY':
      return ['A key must be plain text.', 'Write the key in quotes.']
    default:
      return [message]
  }
}

export const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)
