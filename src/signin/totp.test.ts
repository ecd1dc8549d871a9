import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { fromBase32, matchingStep, otpauthUri, stepAt, toBase32, totpCode } from './totp.ts'

const RFC_SECRET = Buffer.from('12345678901234567890')

describe('TOTP', () => {
  test('gives the codes of RFC 6238 appendix B', () => {
    const vectors = [
      [59, '94287082'],
      [1111111109, '07081804'],
      [1111111111, '14050471'],
      [1234567890, '89005924'],
      [2000000000, '69279037'],
      [20000000000, '65353130'],
    ] as const
    for (const [seconds, code] of vectors) {
      const step = stepAt(seconds * 1000)
      assert.equal(totpCode(RFC_SECRET, step, 8), code)
      assert.equal(totpCode(RFC_SECRET, step), code.slice(2))
    }
  })

  test('gives the HOTP codes of RFC 4226 appendix D', () => {
    const codes = ['755224', '287082', '359152', '969429', '338314', '254676', '287922', '162583', '399871', '520489']
    assert.deepEqual(
      codes.map((_, counter) => totpCode(RFC_SECRET, counter)),
      codes,
    )
  })

  test('accepts the step before, the present one and the one after, and says which', () => {
    const now = 1111111111_000
    const step = stepAt(now)
    for (const near of [-1, 0, 1]) assert.equal(matchingStep(RFC_SECRET, totpCode(RFC_SECRET, step + near), now), step + near)
    for (const far of [-2, 2, 100]) assert.equal(matchingStep(RFC_SECRET, totpCode(RFC_SECRET, step + far), now), undefined)
  })

  test('takes six digits and nothing else', () => {
    const now = 1111111111_000
    const code = totpCode(RFC_SECRET, stepAt(now))
    for (const wrong of ['', code.slice(1), `${code}0`, ` ${code}`, `${code}\n`, '------', '٠١٢٣٤٥', '1e5000', 'abcdef'])
      assert.equal(matchingStep(RFC_SECRET, wrong, now), undefined, wrong)
  })
})

describe('base 32', () => {
  test('writes and reads the vectors of RFC 4648 section 10', () => {
    for (const [plain, text] of [
      ['', ''],
      ['f', 'MY======'],
      ['fo', 'MZXQ===='],
      ['foo', 'MZXW6==='],
      ['foob', 'MZXW6YQ='],
      ['fooba', 'MZXW6YTB'],
      ['foobar', 'MZXW6YTBOI======'],
    ] as const) {
      assert.equal(toBase32(Buffer.from(plain)), text.replace(/=+$/, ''))
      assert.deepEqual(fromBase32(text), Uint8Array.from(Buffer.from(plain)))
      assert.deepEqual(fromBase32(text.toLowerCase()), Uint8Array.from(Buffer.from(plain)))
    }
  })

  test('reads back whatever it wrote, and refuses what it never writes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => assert.deepEqual(fromBase32(toBase32(bytes)), bytes)))
    for (const wrong of ['0', '1', '8', 'M', 'MZX', 'MZ', 'MY!', 'M Y', 'MZXW6Y=B']) assert.equal(fromBase32(wrong), undefined, wrong)
  })
})

test('the line behind the QR code carries issuer, account and secret', () => {
  const uri = new URL(otpauthUri('Chaperone example.org', 'dana', RFC_SECRET))
  assert.equal(uri.protocol, 'otpauth:')
  assert.equal(decodeURIComponent(uri.pathname), '//totp/Chaperone example.org:dana'.slice(uri.host === 'totp' ? 6 : 0))
  assert.deepEqual(Object.fromEntries(uri.searchParams), {
    secret: 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ',
    issuer: 'Chaperone example.org',
    algorithm: 'SHA1',
    digits: '6',
    period: '30',
  })
})
