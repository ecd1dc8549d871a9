import type { Problem } from '../documents/types.ts'
import type { Finding } from '../gateways/postgres/setup/findings.ts'
import type { Part } from '../gateways/postgres/setup/setup.ts'
import type { SetupStep } from '../gateways/postgres/setup/steps.ts'
import type { DatabaseUser } from '../gateways/postgres/setup/users.ts'

export interface DatabaseLook {
  readonly findings: readonly Finding[]
  readonly warnings: readonly Problem[]
}

export interface DatabaseSetupSteps {
  readonly steps: readonly SetupStep[]
  /** whom the steps are about: as asked, else those that roles name, else a proposal */
  readonly users: readonly DatabaseUser[]
}

/** Database users to read with, and to write with; of both lists empty: those that roles name. */
export interface DatabaseCheck {
  readonly read: readonly string[]
  readonly write: readonly string[]
}

export interface DatabaseChecked {
  readonly parts: readonly Part[]
}

export interface DatabaseSigned {
  /** PEM */
  readonly certificate: string
  readonly names: readonly string[]
  readonly notAfter: number
}
