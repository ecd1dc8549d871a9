import type { Register } from './commands.ts'

export const register: Register = (command) => {
  command
    .option('--once', 'end after the story; exit code 0 only when every step went as expected')
    .option('--json', 'print the steps as JSON')
    .addHelpText('after', '\nExamples:\n  chaperone demo                     stays up, and says how to connect\n  chaperone demo --once')
    .action(async (flags: { once?: boolean; json?: boolean }) => {
      const { runDemo } = await import('../demo/main.ts')
      process.exitCode = await runDemo({ once: flags.once === true, json: flags.json === true })
    })
}
