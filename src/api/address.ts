/** An empty or wildcard host means: the one the client has reached us by. */
export function reachable(address: string, host: string): string {
  const colon = address.lastIndexOf(':')
  const name = address.slice(0, colon)
  if (name !== '' && name !== '0.0.0.0' && name !== '[::]') return address
  return `${new URL(`https://${host}`).hostname}${address.slice(colon)}`
}
