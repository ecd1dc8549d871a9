/**
 * A time has two forms, both in UTC and to the second, so that whoever reads a line of a terminal, a page, a message and the record of
 * one event reads the same moment. Either may be given back to Chaperone: `--since`, `--until`, `--start`. In JSON of the API a time is
 * a number, ms since 1970.
 */

/** What a person reads: `2026-11-22 13:00:05Z`. `at`: ms since 1970. */
export const momentText = (at: number): string => instantText(at).replace('T', ' ')

/** What is sent by a gateway, and may be read by a program: `2026-11-22T13:00:05Z` (RFC 3339). `at`: ms since 1970. */
export const instantText = (at: number): string => new Date(at).toISOString().replace(/\.\d+Z$/, 'Z')
