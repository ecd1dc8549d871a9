import { createHash, randomBytes } from 'node:crypto'

/** What a cookie carries, 256 random bits as base64url; the store keeps its hash alone. */
export const newSecret = (): string => randomBytes(32).toString('base64url')

export const isSecret = (text: string): boolean => /^[A-Za-z0-9_-]{43}$/.test(text)

export const hashOf = (secret: string): string => createHash('sha256').update(secret).digest('hex')
