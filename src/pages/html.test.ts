import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { Html, html } from './html.ts'

test('a value is text, whatever it says; only what html made is not escaped again', () => {
  const name = `<b>"'&`
  assert.equal(String(html`<p title="${name}">${name}</p>`), '<p title="&lt;b&gt;&quot;&#39;&amp;">&lt;b&gt;&quot;&#39;&amp;</p>')
  assert.equal(String(html`${[html`<i>${1}</i>`, false, undefined, 'x<']}`), '<i>1</i>x&lt;')
  const forged = { toString: () => '<script>' } as unknown as string
  assert.equal(String(html`${forged}`), '&lt;script&gt;')
})

test('no value of any kind opens a tag, closes an attribute or begins an entity', () => {
  fc.assert(
    fc.property(
      fc.string({
        unit: fc.oneof(
          fc.constantFrom('<', '>', '"', "'", '&', '\u0000'),
          fc.integer({ min: 0, max: 0x10ffff }).map((point) => String.fromCodePoint(point)),
        ),
      }),
      (text) => {
        const inside = String(html`${text}`)
        assert.doesNotMatch(inside, /[<>"']/)
        assert.doesNotMatch(inside.replace(/&(?:amp|lt|gt|quot|#39);/g, ''), /&/)
      },
    ),
  )
})

const folder = dirname(fileURLToPath(import.meta.url))
const sources = readdirSync(folder).filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))

test('in the pages, values stand only in text and between double quotes, and only html makes HTML', () => {
  for (const file of sources) {
    const text = readFileSync(join(folder, file), 'utf8')
    assert.doesNotMatch(
      text,
      /<[a-z][a-z0-9-]*(?:\s+[a-z-]+(?:="[^"]*")?)*\s+[a-z-]+=(?:'[^'\n]*)?\$\{/,
      `${file}: a value in an attribute without double quotes`,
    )
    assert.doesNotMatch(text, /\son[a-z]+="|style="|javascript:/, `${file}: script or style in the markup`)
    if (file !== 'html.ts') assert.doesNotMatch(text, /\bHtml\.of\(|new Html\b/, file)
  }
  assert.ok(html`` instanceof Html)
})

test('the script makes no HTML from text', () => {
  const text = readFileSync(join(folder, 'script.ts'), 'utf8')
  assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|srcdoc/)
})
