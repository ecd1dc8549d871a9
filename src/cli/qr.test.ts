import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import decodeQR from 'qr/decode.js'
import { terminalQr } from './qr.ts'

const LINE =
  'otpauth://totp/Chaperone%20chaperone.internal:admin?secret=LM4ZMCGFP34GKUTDWR22V35KFIJ2DDBT&issuer=Chaperone&algorithm=SHA1&digits=6&period=30'

/** The picture that a telephone would see: four pixels a square. */
function picture(code: string) {
  const rows = stripVTControlCharacters(code)
    .trimEnd()
    .split('\n')
    .flatMap((line) => {
      const halves = [...line.slice(2)]
      return [halves.map((half) => half === '▀' || half === '█'), halves.map((half) => half === '▄' || half === '█')]
    })
  const [width, height] = [rows[0]!.length * 4, rows.length * 4]
  const data = new Uint8Array(width * height * 4).fill(255)
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) if (rows[y >> 2]![x >> 2]) data.fill(0, (y * width + x) * 4, (y * width + x) * 4 + 3)
  return { width, height, data }
}

test('what stands in the terminal is read by a camera as the very line', () => {
  assert.equal(decodeQR(picture(terminalQr(LINE, 120)!)), LINE)
})

test('a window that is too narrow gets none, for half a code reads as nothing', () => {
  assert.equal(terminalQr(LINE, 30), undefined)
})
