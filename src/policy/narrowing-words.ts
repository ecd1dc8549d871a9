import type { LimitPart } from './narrowing.ts'
import type { Effect, Limits } from './types.ts'

const EFFECT_WORDS: Readonly<Record<Effect, string>> = {
  read: 'read',
  write: 'write',
  destroy: 'delete and overwrite',
  admin: 'administer',
  egress: 'send data out',
}

/** In the order in which a person asks: with which roles, where, with which tools, doing what, on which condition. */
const PARTS = ['roles', 'resources', 'tools', 'effects', 'where'] as const satisfies readonly LimitPart[]

/** What is left over, one sentence a part, for the person who gives it and for who acts under it. None: everything is left. */
export function limitsInWords(limits: Limits): readonly string[] {
  return PARTS.flatMap((part) => (limits[part] === undefined ? [] : [`${capital(limitInWords(limits, part))}.`]))
}

/** `only mcp/files and postgres/*`: what one part leaves over. */
export function limitInWords(limits: Limits, part: LimitPart): string {
  switch (part) {
    case 'roles':
      return limits.roles!.length === 0 ? 'no role at all' : `only the role${limits.roles!.length === 1 ? '' : 's'} ${listOf(limits.roles!)}`
    case 'resources':
      return limits.resources!.length === 0 ? 'no resource at all' : `only ${listOf(limits.resources!)}`
    case 'tools':
      if (limits.tools!.length === 0) return 'nothing of MCP servers'
      return `of MCP servers only the tool${limits.tools!.length === 1 && !/[*?]/.test(limits.tools![0]!) ? '' : 's'} ${listOf(limits.tools!)}`
    case 'effects':
      return limits.effects!.length === 0 ? 'nothing that has an effect' : `only to ${listOf(limits.effects!.map((effect) => EFFECT_WORDS[effect]))}`
    case 'where':
      return `only where ${limits.where}`
  }
}

/** The most names in one sentence; a person does not read more, and the rest is counted. */
const MOST = 12

function listOf(all: readonly string[]): string {
  const shown = all.length > MOST ? [...all.slice(0, MOST - 1), `${all.length - MOST + 1} more`] : all
  return shown.length === 1 ? shown[0]! : `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}`
}

const capital = (sentence: string) => sentence.charAt(0).toUpperCase() + sentence.slice(1)
