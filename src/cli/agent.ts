import { join, key } from './agent-join.ts'
import { jwt } from './agent-jwt.ts'
import { ls } from './agent-ls.ts'
import { review } from './agent-review.ts'
import { run } from './agent-run.ts'
import { show } from './agent-show.ts'
import { states } from './agent-state.ts'
import { token } from './agent-token.ts'
import type { Register } from './commands.ts'

/** One file a subcommand: agent-*.ts. */
export const register: Register = (command) => {
  ls(command)
  show(command)
  review(command)
  token(command)
  join(command)
  run(command)
  jwt(command)
  key(command)
  states(command)
}
