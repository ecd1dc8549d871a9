import type { Clock } from '../clock.ts'

/** Does `work` again and again, each time `ms` after the last has ended, until what is returned is called; that waits for the one under way. */
export function every(clock: Clock, ms: number, work: () => Promise<void>, failed: (error: unknown) => void): () => Promise<void> {
  let stopped = false
  let underWay: Promise<void> = Promise.resolve()
  let disarm = () => {}
  const arm = () => {
    disarm = clock.at(clock.now() + ms, () => {
      // What is thrown in a timer would end the node.
      underWay = (async () => work())()
        .catch(failed)
        .finally(() => {
          if (!stopped) arm()
        })
    })
  }
  arm()
  return async () => {
    stopped = true
    disarm()
    await underWay
  }
}
