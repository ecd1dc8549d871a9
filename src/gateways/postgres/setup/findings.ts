/** What was looked at, how it is, and the line that makes it right. */
export interface Finding {
  /** `missing`: without it Chaperone does not work, or a fence has a hole. `advice`: a second fence that could stand. */
  readonly level: 'ok' | 'missing' | 'advice'
  readonly said: string
  /** SQL, a line of a file, or a command */
  readonly fix?: string
}

export const ok = (said: string): Finding => ({ level: 'ok', said })
export const missing = (said: string, fix?: string): Finding => ({ level: 'missing', said, ...(fix === undefined ? {} : { fix }) })
export const advice = (said: string, fix?: string): Finding => ({ level: 'advice', said, ...(fix === undefined ? {} : { fix }) })
