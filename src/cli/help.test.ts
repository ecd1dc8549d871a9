import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Command } from 'commander'
import { wholeProgram } from './main.ts'

function helpOf(command: Command): string {
  let text = ''
  command
    .configureOutput({
      writeOut: (part) => {
        text += part
      },
    })
    .outputHelp()
  return text
}

const commandsOf = (command: Command, path: string): readonly (readonly [string, Command])[] =>
  command.commands.flatMap((child) => [[`${path} ${child.name()}`, child] as const, ...commandsOf(child, `${path} ${child.name()}`)])

/** What one types in the first hour, though nothing must be given. */
const EVERYDAY = new Set(['up', 'demo', 'logout', 'whoami', 'doctor'].map((name) => `chaperone ${name}`))

test('the help of every command says what each argument and option is, which must be given, and shows an example where something must, or everybody begins', async () => {
  const missing: string[] = []
  for (const [path, command] of commandsOf(await wholeProgram(), 'chaperone')) {
    const help = helpOf(command)
    for (const argument of command.registeredArguments) if (argument.description === '') missing.push(`${path} <${argument.name()}>: no description`)
    for (const option of command.options) {
      if (option.description === '') missing.push(`${path} ${option.flags}: no description`)
      if (!option.mandatory) continue
      const [its = ''] = help.slice(help.indexOf(`  ${option.flags}`)).split(/\n {2}-/)
      if (!its.replace(/\s+/g, ' ').includes('(required)')) missing.push(`${path} ${option.flags}: not marked as required`)
    }
    const must =
      EVERYDAY.has(path) || command.registeredArguments.some(({ required }) => required) || command.options.some(({ mandatory }) => mandatory)
    const inherited = path.startsWith('chaperone explain ') && /Examples:/.test(helpOf(command.parent!))
    if (must && !inherited && !/Examples?:|A file of cases:/.test(help)) missing.push(`${path}: no example`)
  }
  assert.deepEqual(missing, [])
})
