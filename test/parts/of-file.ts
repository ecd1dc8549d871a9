import { after, before } from 'node:test'

/**
 * One for all tests of a file, where a new one for each would prove nothing more: a server and its people cost more than most tests.
 * What a test changes in it, it puts back. Filled before the first test runs; another `before` of the file may run sooner.
 */
export function ofFile<T extends object>(make: (t: { after(work: () => unknown): void }) => Promise<T>): T {
  const made = {} as T
  const ending: (() => unknown)[] = []
  before(async () => void Object.assign(made, await make({ after: (work) => void ending.push(work) })))
  after(async () => {
    for (const end of ending.reverse()) await end()
  })
  return made
}
