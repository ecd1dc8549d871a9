import { AsyncLocalStorage } from 'node:async_hooks'

const address = new AsyncLocalStorage<string>()

/**
 * Does what a stranger asks for, as somebody who knocks from this address: it stands in the record of whatever is refused meanwhile,
 * and how many of those are written down is counted by it. Nothing in between has a use for it, so nothing hands it on.
 */
export const knocking = <T>(remote: string, work: () => Promise<T>): Promise<T> => address.run(remote, work)

/** The address of the stranger who is being answered; undefined for whoever is signed in, or asks from inside. */
export const knocksFrom = (): string | undefined => address.getStore()
