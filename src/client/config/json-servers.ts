import { readJson, removeMember, setMember } from '../json-edit.ts'
import { inItsLineEnds } from './line-ends.ts'
import type { Format, Written } from './types.ts'

type Path = readonly string[]

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null && !Array.isArray(value)

export function within(value: unknown, path: Path): unknown {
  let here = value
  for (const key of path) here = isObject(here) && Object.hasOwn(here, key) ? here[key] : undefined
  return here
}

/** JSON, with comments or without: an object of servers below `path`, and below what `more` finds. */
export function jsonServers(path: Path, more: (whole: unknown) => readonly Path[] = () => []): Format {
  return {
    list(text) {
      const whole = readJson(text)
      return [path, ...more(whole)].flatMap((at): Written[] => {
        const servers = within(whole, at)
        return isObject(servers) ? Object.entries(servers).map(([name, value]) => ({ at: [...at, name], name, value })) : []
      })
    },
    get: (text, at) => within(readJson(text), at),
    set: (text, name, value, at = [...path, name]) => inItsLineEnds(text, (whole) => setMember(whole, at, value)),
    remove: (text, name, at = [...path, name]) => inItsLineEnds(text, (whole) => removeMember(whole, at)),
  }
}
