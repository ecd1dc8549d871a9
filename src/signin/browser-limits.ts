export const BROWSER_LIMITS = {
  /** longest life of a session in a browser, and how long it may lie idle */
  sessionMs: 8 * 3_600_000,
  idleMs: 30 * 60_000,
  /** how long a browser stays known, and how many a person has; with one more the one used longest ago is forgotten */
  knownMs: 90 * 24 * 3_600_000,
  browsers: 10,
  /** sessions in browsers that a person has at once */
  sessions: 10,
  /** life of the link that makes a browser known */
  linkMs: 2 * 60_000,
} as const
