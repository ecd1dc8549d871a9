import { Command, CommanderError, Help, type Option } from 'commander'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { COMMANDS } from './commands.ts'
import { EXIT_CODES, fail, printable } from './output.ts'

/** Everything that could be loaded for the one command that is asked; help needs only its own page. */
export async function program(args: readonly string[]): Promise<Command> {
  const root = new Command('chaperone')
    .description('Identity broker and access proxy for AI agents and people.')
    .helpOption('-h, --help', 'help for a command')
    .helpCommand(false)
    .showSuggestionAfterError()
    .configureHelp({ optionDescription })
    .addHelpText('after', EXIT_CODES)
  const wanted = args.find((arg) => !arg.startsWith('-'))
  for (const { name, summary, load } of COMMANDS) {
    const command = root.command(name).description(summary).helpCommand(false).copyInheritedSettings(root)
    if (name === wanted) (await load())(command)
  }
  return root
}

/** For the generated reference and for completion: every command with its options. */
export async function wholeProgram(): Promise<Command> {
  const root = await program([])
  for (const { name, load } of COMMANDS) (await load())(root.commands.find((command) => command.name() === name)!)
  return root
}

export async function main(given: readonly string[]): Promise<void> {
  // What everybody tries first.
  const args = given[0] === '--version' || given[0] === '-V' ? ['version'] : given
  // A reader that has seen enough (`| head`) is no fault.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    process.exit(0)
  })
  // Nobody is left to be told, and what we do (a run, a door, a server) goes on: without this, the next line to say would end it.
  process.stderr.on('error', () => {})
  const root = await program(args)
  const everywhere = (command: Command): void => {
    command.exitOverride().configureOutput({ outputError: () => {} })
    command.configureHelp({ ...command.configureHelp(), helpWidth: Math.min(process.stdout.columns ?? 100, 120) })
    for (const child of command.commands) everywhere(child)
  }
  everywhere(root)
  try {
    if (args.length === 0) return root.outputHelp()
    await root.parseAsync(args, { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return
      // Asked for a group of commands without one of them: commander has shown its help.
      if (error.code === 'commander.help') {
        process.exitCode = 2
        return
      }
      const [first = '', ...hints] = error.message.replace(/^error: /, '').split('\n')
      const help = `${asked(root, args)} --help`
      process.stderr.write(`chaperone: ${printable(first)} [usage]\n  ${[...hints.map((hint) => printable(hint)), `See \`${help}\`.`].join(' ')}\n`)
      process.exitCode = 2
      return
    }
    fail(isHomeless(error) ? NO_HOME : (notOurs(error) ?? toChaperoneError(error)))
  }
}

/** A container may run under a user id that has no name, and so no home folder. */
const isHomeless = (error: unknown): boolean => (error as { syscall?: unknown } | undefined)?.syscall === 'uv_os_homedir'
const NO_HOME = new ChaperoneError('usage', 'This user has no home folder: HOME is not set, and the system knows no name for its id.', {
  fix: 'Set HOME; or say where: chaperone up --data-dir DIR, for all other commands CHAPERONE_HOME=DIR.',
})

/** What must be given is seen in the help, not after the first try. */
function optionDescription(this: Help, option: Option): string {
  const text = Help.prototype.optionDescription.call(this, option)
  return option.mandatory ? `${text} (required)` : text
}

/** A file that this user may not touch, or a disk that takes nothing: nothing went wrong inside of us. Where a command knows more, it says that. */
function notOurs(error: unknown): ChaperoneError | undefined {
  if (error instanceof ChaperoneError) return undefined
  const { code = '', path } = (error ?? {}) as { readonly code?: unknown; readonly path?: unknown }
  const why = DENIED[String(code)]
  if (why === undefined || typeof path !== 'string') return undefined
  return new ChaperoneError('unavailable_here', `${path}: ${why}.`, {
    fix: 'Run it as the user whose folder that is, or name another one: CHAPERONE_HOME=DIR.',
    cause: error,
  })
}
const DENIED: Readonly<Record<string, string>> = {
  EACCES: 'this user may not',
  EPERM: 'this user may not',
  EROFS: 'it cannot be written, the disk is read-only',
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk is full for this user',
}

/** The command that the words lead to, for the hint under an error. */
function asked(root: Command, args: readonly string[]): string {
  const names = [root.name()]
  let here: Command | undefined = root
  for (const word of args) {
    here = here.commands.find((command) => command.name() === word)
    if (!here) break
    names.push(word)
  }
  return names.join(' ')
}

if (import.meta.main) await main(process.argv.slice(2))
