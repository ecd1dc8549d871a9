import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'

/**
 * The bugs that peers had, R01 to R95: other gateways, proxies and MCP servers, from their issues, pull requests and
 * advisories. Each that could be one of an MCP gateway, or of what carries it (who calls, the guard, the record, applying
 * documents), is a test whose title names its number: `TESTED`. Of each other one the line says why not.
 */
const TESTED = 'tested'
const DATABASE = 'of a database, not of MCP'
const NO_SUCH = (what: string) => `there is no ${what} here`

const REGRESSIONS: Readonly<Record<string, readonly [bug: string, applies: string]>> = {
  R01: ['`Name` beside `name` in params', TESTED],
  R02: ['`Params` beside `params`', TESTED],
  R03: ['`Method` beside `method`', TESTED],
  R04: ['`ID` for `id`: a call that looks like a notification', TESTED],
  R05: ['duplicate and escaped keys, BOM, trailing data, batches, depth', TESTED],
  R06: ['rewriting changes numbers and drops unknown fields', TESTED],
  R07: ['`Application/json` walks past the gate', TESTED],
  R08: ['a call in a body that is not called JSON', TESTED],
  R09: ['a prefix of the path makes the caller anonymous and welcome', TESTED],
  R10: ['`Mcp-Name` says one tool, the body another', TESTED],
  R11: ['a body without end', TESTED],
  R12: ['a limit that nobody can find or set', TESTED],
  R13: ['after many lists at once they are not filtered', TESTED],
  R14: ['a filtered list loses fields', TESTED],
  R15: ['what a server asks is dropped in silence', TESTED],
  R16: ['a second route without the check', TESTED],
  R17: ['a route without any decision', TESTED],
  R18: ['what is added while running is not checked', TESTED],
  R19: ['a tool that lists or calls others shows and calls too much', TESTED],
  R20: ['who knows the URL is a member', TESTED],
  R21: ['a new server is everybody’s', TESTED],
  R22: ['a policy is stored and shown, and never asked', TESTED],
  R23: ['a policy where it does nothing', TESTED],
  R24: ['an extension allows in the place of the policy', NO_SUCH('extension that decides')],
  R25: ['a check that fails allows', TESTED],
  R26: ['the default depends on what else is written', TESTED],
  R27: ['a rule on what is never there', TESTED],
  R28: ['a bad pattern drops its rule; one more than the limit', TESTED],
  R29: ['an expression that is no yes or no', TESTED],
  R30: ['a condition about tools blocks the list', TESTED],
  R31: ['an empty list is all here and none there', TESTED],
  R32: ['one role poisons another', TESTED],
  R33: ['a right that was taken works on for minutes', TESTED],
  R34: ['headers that say who one is are believed', TESTED],
  R35: ['checked at the decision, not when it is sent', TESTED],
  R36: ['the arguments change after the yes', TESTED],
  R37: ['a yes that never ends', TESTED],
  R38: ['the client says who decided', TESTED],
  R39: ['the second check has less to go by', TESTED],
  R40: ['one yes for every later call', TESTED],
  R41: ['a yes used twice', TESTED],
  R42: ['the approver does not see the arguments', TESTED],
  R43: ['who has nothing approves his own request', TESTED],
  R44: ['self-approval by another path', TESTED],
  R45: ['who may give gives to himself', TESTED],
  R46: ['a grant is over, its session is not', TESTED],
  R47: ['a changed tool is approved unseen', TESTED],
  R48: ['a call after its yes skips the policy of now', TESTED],
  R49: ['a route lets in who is nobody', TESTED],
  R50: ['a failed login falls back to nobody', TESTED],
  R51: ['a session is asked for its existence, not its owner', TESTED],
  R52: ['a stream attached to, a session ended, by another', TESTED],
  R53: ['a session id in a URL is the login', TESTED],
  R54: ['who may resume: owner, other, revoked, idle, after a rotation', TESTED],
  R55: ['sessions upstream are mixed between people', TESTED],
  R56: ['a map of sessions that only grows', TESTED],
  R57: ['a stateful server does not get its session id', TESTED],
  R58: ['an end that looks like endless errors', TESTED],
  R59: ['a stored token is not sent', TESTED],
  R60: ['a login that was removed works on', TESTED],
  R61: ['a copied connection takes the credentials along', NO_SUCH('copying of connections')],
  R62: ['a session is lost on another node', TESTED],
  R63: ['a call counts once a worker', TESTED],
  R64: ['a lock meant for one instance stops all', TESTED],
  R65: ['a lock by mistake after a restored backup', NO_SUCH('lock that is made by itself')],
  R66: ['recovery with a stolen credential does not lock', NO_SUCH('recovery')],
  R67: ['an upgrade locks the operator’s own bot', NO_SUCH('lock that is made by itself')],
  R68: ['a second factor for all stops the agents', TESTED],
  R69: ['a record that is too long is dropped', TESTED],
  R70: ['what cannot be recorded happens all the same', TESTED],
  R71: ['an export hangs on one record', NO_SUCH('export of records yet')],
  R72: ['secrets in the record', TESTED],
  R73: ['one way out of a call leaves half a record', TESTED],
  R74: ['a refusal that looks like not found', TESTED],
  R75: ['noise pushes records out', TESTED],
  R76: ['a client that vanishes leaves no end', TESTED],
  R77: ['an empty user or database name', DATABASE],
  R78: ['privileges that outlive the session', DATABASE],
  R79: ['NULL and columns are lost', DATABASE],
  R80: ['read-only that is not', DATABASE],
  R81: ['reads that are refused', DATABASE],
  R82: ['children that nobody ends', TESTED],
  R83: ['two children for one key', TESTED],
  R84: ['one client’s end is everybody’s', TESTED],
  R85: ['an open stream keeps an idle child alive', TESTED],
  R86: ['a shell between us and the server', TESTED],
  R87: ['a client that leaves crashes the gateway', TESTED],
  R88: ['a child that ended is waited for', TESTED],
  R89: ['children inherit every credential', TESTED],
  R90: ['an option that nothing reads', TESTED],
  R91: ['two tools of one name', TESTED],
  R92: ['two names become one', TESTED],
  R93: ['a renamed tool escapes its quarantine', TESTED],
  R94: ['a tool that comes back has no pin', TESTED],
  R95: ['idle connections stay, long calls are cut', TESTED],
}

/** Titles of every test in the tree; numbers anywhere else prove nothing. */
const TITLES = /\b(?:test|describe|it)\(\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`)/g

function numbersInTitles(): ReadonlySet<string> {
  const root = new URL('../../', import.meta.url)
  const found = new Set<string>()
  for (const file of globSync(['src/**/*.test.ts', 'test/**/*.test.ts'], { cwd: root.pathname })) {
    for (const [, title = ''] of readFileSync(new URL(file, root), 'utf8').matchAll(TITLES))
      for (const [number] of title.matchAll(/\bR\d\d\b/g)) found.add(number)
  }
  return found
}

test('every bug of the peers is in the table, in one line, once', () => {
  const all = Array.from({ length: 95 }, (_, i) => `R${String(i + 1).padStart(2, '0')}`)
  assert.deepEqual(Object.keys(REGRESSIONS), all)
  for (const [number, [bug, applies]] of Object.entries(REGRESSIONS)) assert.ok(bug.length > 5 && applies.length > 5, number)
})

test('each that applies is named by the title of a test, and no title names one that is not in the table', () => {
  const named = numbersInTitles()
  const missing = Object.entries(REGRESSIONS).filter(([number, [, applies]]) => applies === TESTED && !named.has(number))
  assert.deepEqual(missing, [])
  assert.deepEqual(
    [...named].filter((number) => REGRESSIONS[number] === undefined),
    [],
  )
})
