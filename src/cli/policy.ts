import type { Register } from './commands.ts'
import { registerPolicyDiff } from './policy-diff.ts'
import { registerPolicyReplay } from './policy-replay.ts'
import { registerPolicySuggest } from './policy-suggest.ts'
import { registerPolicyTest } from './policy-test.ts'

const NOTES = `
\`test\` needs no server. The others change nothing: what they are given is not applied.
The guide: docs/enforce-gradually.md`

export const register: Register = (command) => {
  command.addHelpText('after', NOTES)
  registerPolicyTest(command)
  registerPolicyDiff(command)
  registerPolicyReplay(command)
  registerPolicySuggest(command)
}
