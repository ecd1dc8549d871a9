import type { ErrorBody, Problem } from '../api/contract.ts'
import { ChaperoneError } from '../errors.ts'

/** An error that the server gave, with what only the API says. */
export class ApiError extends ChaperoneError {
  readonly status: number
  readonly decisionId: string | undefined
  readonly hint: string | undefined
  readonly problems: readonly Problem[]
  readonly request: ErrorBody['error']['request']

  constructor(status: number, { error }: ErrorBody) {
    super(error.code, error.message, error.fix === undefined ? {} : { fix: error.fix })
    this.name = 'ApiError'
    this.status = status
    this.decisionId = error.decisionId
    this.hint = error.hint
    this.problems = error.problems ?? []
    this.request = error.request
  }
}
