/** Work about one request, one after the other: what this node does twice at once is then no race at all. */
export function turnsById() {
  const turns = new Map<string, Promise<unknown>>()
  return async <T>(id: string, work: () => Promise<T>): Promise<T> => {
    const before = turns.get(id)
    const mine = before ? before.then(work, work) : work()
    turns.set(id, mine)
    try {
      return await mine
    } finally {
      if (turns.get(id) === mine) turns.delete(id)
    }
  }
}
