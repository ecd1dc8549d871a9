import type { Command } from 'commander'
import { CLIENTS } from '../client/config/types.ts'
import { ChaperoneError } from '../errors.ts'
import type { Register } from './commands.ts'
import { line } from './output.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const

/** What the first argument of a command may be, where that is known. */
const ARGUMENTS: Readonly<Record<string, readonly string[]>> = { 'mcp config': CLIENTS, completion: SHELLS }

export const register: Register = (command) => {
  command
    .argument('<shell>', SHELLS.join(', '))
    .addHelpText(
      'after',
      '\nExamples:\n  source <(chaperone completion bash)\n  chaperone completion fish > ~/.config/fish/completions/chaperone.fish',
    )
    .action(async (shell: string) => {
      const { wholeProgram } = await import('./main.ts')
      const words = wordsOf(await wholeProgram())
      if (shell === 'bash') line(bash(words))
      else if (shell === 'zsh') line(`#compdef chaperone\nautoload -U +X bashcompinit && bashcompinit\n${bash(words)}`)
      else if (shell === 'fish') line(fish(words))
      else throw new ChaperoneError('usage', `${shell} is not known.`, { fix: `Write one of ${SHELLS.join(', ')}.` })
    })
}

/** What may follow each path of commands (`''`, `mcp`, `mcp connect`): subcommands, words and flags. */
type Words = ReadonlyMap<string, { readonly commands: readonly Command[]; readonly args: readonly string[]; readonly flags: readonly string[] }>

function wordsOf(root: Command): Words {
  const words = new Map<string, { commands: readonly Command[]; args: readonly string[]; flags: string[] }>()
  const walk = (command: Command, path: string) => {
    const flags = command.options.map((option) => option.long ?? option.short ?? '').filter(Boolean)
    words.set(path, { commands: command.commands, args: ARGUMENTS[path] ?? [], flags: [...flags, '--help'] })
    for (const child of command.commands) walk(child, path === '' ? child.name() : `${path} ${child.name()}`)
  }
  walk(root, '')
  return words
}

function bash(words: Words): string {
  const cases = [...words].map(
    ([path, { commands, args, flags }]) =>
      `    ${JSON.stringify(path)}) words="${[...commands.map((command) => command.name()), ...args, ...flags].join(' ')}" ;;`,
  )
  return `_chaperone() {
  local path="" word words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    [[ $word == -* ]] && break
    case "\${path:+$path }$word" in
      ${[...words.keys()]
        .filter((path) => path !== '')
        .map((path) => JSON.stringify(path))
        .join('|')}) path="\${path:+$path }$word" ;;
      *) break ;;
    esac
  done
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _chaperone chaperone`
}

function fish(words: Words): string {
  const lines = ['complete -c chaperone -f']
  for (const [path, { commands, args, flags }] of words) {
    const parts = path === '' ? [] : path.split(' ')
    const seen = parts.map((part) => `__fish_seen_subcommand_from ${part}`).join('; and ')
    const names = commands.map((command) => command.name()).join(' ')
    const here = [seen, names === '' ? '' : `not __fish_seen_subcommand_from ${names}`].filter(Boolean).join('; and ')
    for (const command of commands)
      lines.push(`complete -c chaperone -n '${here}' -a ${command.name()} -d '${command.description().replaceAll("'", "\\'")}'`)
    for (const arg of args) lines.push(`complete -c chaperone -n '${seen}' -a ${arg}`)
    if (path !== '') for (const flag of flags) lines.push(`complete -c chaperone -n '${seen}' -l ${flag.replace(/^--?/, '')}`)
  }
  return lines.join('\n')
}
