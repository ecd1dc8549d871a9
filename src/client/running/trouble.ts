import type { ChaperoneError } from '../../errors.ts'

/** A server that is away is one fact, however often it is tried meanwhile: said once, and again when it is over. */
export function tellTrouble(say: (line: string) => void): { onTrouble(error: ChaperoneError): void; onWell(): void } {
  let told: string | undefined
  return {
    onTrouble(error) {
      if (error.code !== told) say(`the credential could not be renewed: ${error.message} It is tried again until it ends.`)
      told = error.code
    },
    onWell() {
      if (told !== undefined) say('the credential is renewed again')
      told = undefined
    },
  }
}
