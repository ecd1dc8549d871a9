import type { Command } from 'commander'

/** Adds options, arguments, subcommands and the action to the command that main.ts made. */
export type Register = (command: Command) => void

interface Entry {
  readonly name: string
  readonly summary: string
  readonly load: () => Promise<Register>
}

/** Every command, in the order of the help. A command's file is loaded only when it is asked for: help stays under 150 ms. */
export const COMMANDS: readonly Entry[] = [
  { name: 'up', summary: 'start the server', load: async () => (await import('./up.ts')).register },
  { name: 'recover', summary: "let an administrator in again, on the server's machine", load: async () => (await import('./recover.ts')).register },
  {
    name: 'demo',
    summary: 'watch a governed agent at work on a real database and real MCP servers',
    load: async () => (await import('./demo.ts')).register,
  },
  { name: 'login', summary: 'sign in, with an invitation the first time', load: async () => (await import('./login.ts')).register },
  { name: 'logout', summary: 'end the session', load: async () => (await import('./logout.ts')).register },
  { name: 'browser', summary: 'make a browser known as yours: a link; ls, forget', load: async () => (await import('./browser.ts')).register },
  { name: 'whoami', summary: 'who this machine is signed in as', load: async () => (await import('./whoami.ts')).register },
  {
    name: 'mcp',
    summary: 'MCP servers: connect, proxy, ls, add, pins, login, config, import, bundle, export',
    load: async () => (await import('./mcp.ts')).register,
  },
  {
    name: 'db',
    summary: 'PostgreSQL databases: ls, connect, proxy, env, add, setup, sign-server',
    load: async () => (await import('./db.ts')).register,
  },
  { name: 'invite', summary: 'invite a person', load: async () => (await import('./invite.ts')).register },
  {
    name: 'agent',
    summary: 'agents: ls, show, review, token, join, run, jwt, key, disable, enable',
    load: async () => (await import('./agent.ts')).register,
  },
  {
    name: 'run',
    summary: 'start claude, codex, gemini or any program that acts for you, with less than you may',
    load: async () => (await import('./run.ts')).register,
  },
  { name: 'issue', summary: 'issue a credential or token for an identity', load: async () => (await import('./issue.ts')).register },
  { name: 'apply', summary: 'apply roles, resources and identities from YAML', load: async () => (await import('./apply.ts')).register },
  { name: 'diff', summary: 'what `apply` would change', load: async () => (await import('./diff.ts')).register },
  { name: 'get', summary: 'show applied documents', load: async () => (await import('./get.ts')).register },
  { name: 'delete', summary: 'delete an applied document', load: async () => (await import('./delete.ts')).register },
  { name: 'explain', summary: 'who may do what, and why', load: async () => (await import('./explain.ts')).register },
  {
    name: 'policy',
    summary: 'roles on trial: test, diff, replay, suggest',
    load: async () => (await import('./policy.ts')).register,
  },
  {
    name: 'lock',
    summary: 'stop an identity, a tool, every agent ... at once: add, ls, lift',
    load: async () => (await import('./lock.ts')).register,
  },
  { name: 'sessions', summary: 'sessions: ls, show, kill, watch', load: async () => (await import('./sessions.ts')).register },
  {
    name: 'delegations',
    summary: 'who acts for whom, within which limits: ls, show, revoke',
    load: async () => (await import('./delegations.ts')).register,
  },
  {
    name: 'requests',
    summary: 'what somebody asks for: ls, show, ask, approve, deny, revoke, watch ...',
    load: async () => (await import('./requests.ts')).register,
  },
  { name: 'audit', summary: 'the record: tail, search, show, rule, verify, checkpoint', load: async () => (await import('./audit.ts')).register },
  { name: 'secret', summary: 'upstream secrets: set, ls, delete', load: async () => (await import('./secret.ts')).register },
  {
    name: 'credentials',
    summary: 'credentials for what is behind Chaperone, without their values: ls',
    load: async () => (await import('./credentials.ts')).register,
  },
  { name: 'notifiers', summary: 'who outside is told of requests and locks: ls, test', load: async () => (await import('./notifiers.ts')).register },
  { name: 'ca', summary: 'certificate authorities: show, rotate', load: async () => (await import('./ca.ts')).register },
  {
    name: 'doctor',
    summary: 'check this machine and the connection to the server; bypass',
    load: async () => (await import('./doctor.ts')).register,
  },
  { name: 'completion', summary: 'shell completion for bash, zsh and fish', load: async () => (await import('./completion.ts')).register },
  { name: 'version', summary: 'version of Chaperone and of Node', load: async () => (await import('./version.ts')).register },
]
