/** One step of the story: what should happen, what did, and whether the two agree. */
export interface Step {
  readonly step: string
  readonly expected: string
  readonly observed: string
  readonly ok: boolean
}

/** What a step saw. `lines` are shown under it; `ok` is computed from what was observed, never assumed. */
export interface Observation {
  readonly observed: string
  readonly ok: boolean
  readonly lines?: readonly string[]
}

export interface Teller {
  /** A heading between steps. */
  chapter(title: string, text: string): void
  /** Performs one step; a throw is an observation too, and never an expected one. */
  step(name: string, expected: string, perform: () => Promise<Observation>): Promise<void>
  readonly steps: readonly Step[]
}

const paint = (on: boolean) => (code: number, text: string) => (on ? `\u001b[${code}m${text}\u001b[0m` : text)

/** Tells the story line by line on `out`, or stays silent when it is to be printed as JSON at the end. */
export function tell(
  out: { write(text: string): unknown; readonly isTTY?: boolean },
  options: { readonly silent: boolean; readonly color: boolean },
): Teller {
  const steps: Step[] = []
  const colored = paint(options.color)
  const say = (text: string) => {
    if (!options.silent) out.write(`${text}\n`)
  }
  return {
    steps,
    chapter(title, text) {
      say(`\n${colored(1, title)}\n${text}\n`)
    },
    async step(name, expected, perform) {
      let seen: Observation
      try {
        seen = await perform()
      } catch (error) {
        seen = { observed: `failed: ${error instanceof Error ? error.message : String(error)}`, ok: false }
      }
      steps.push({ step: name, expected, observed: seen.observed, ok: seen.ok })
      say(`${seen.ok ? colored(32, '  ✓') : colored(31, '  ✗')} ${name}`)
      if (!seen.ok) say(`      expected  ${expected}`)
      say(`      ${seen.ok ? '' : 'observed  '}${seen.observed}`)
      for (const line of seen.lines ?? []) say(colored(2, `      │ ${line}`))
    },
  }
}
