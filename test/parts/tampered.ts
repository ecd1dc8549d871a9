/** The token with one letter of its signature changed: not the last, of which some bits count for nothing, and never into what it was. */
export const tampered = (token: string): string => token.slice(0, -6) + (token.at(-6) === 'A' ? 'B' : 'A') + token.slice(-5)
