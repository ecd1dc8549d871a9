import { encodeQR } from 'qr'

/** Black on white whatever the colours of the terminal are: an app reads nothing else reliably. */
const BLACK_ON_WHITE = '\u001b[38;5;16;48;5;231m'
const PLAIN = '\u001b[0m'
/** Two rows of the code in one line of text, for a character is twice as high as it is wide. */
const HALVES = [' ', '▄', '▀', '█'] as const

/** A QR code in lines for a terminal; nothing where it would be broken by the edge of the window. */
export function terminalQr(text: string, columns: number): string | undefined {
  const rows = encodeQR(text, 'raw', { ecc: 'low' })
  if (rows.length > columns) return undefined
  const lines: string[] = []
  for (let y = 0; y < rows.length; y += 2) {
    const halves = rows[y]!.map((upper, x) => HALVES[(upper ? 2 : 0) + (rows[y + 1]?.[x] ? 1 : 0)])
    lines.push(`  ${BLACK_ON_WHITE}${halves.join('')}${PLAIN}\n`)
  }
  return lines.join('')
}
