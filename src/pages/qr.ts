import { encodeQR } from 'qr'
import { type Html, html } from './html.ts'

/** A QR code as one inline path: no image is loaded, and no markup of the library gets into a page. */
export function qrCode(text: string, label: string): Html {
  const rows = encodeQR(text, 'raw')
  const path = rows.flatMap((row, y) => row.flatMap((dark, x) => (dark ? [`M${x} ${y}h1v1h-1z`] : []))).join('')
  const size = rows.length
  return html`<svg class="qr" role="img" aria-label="${label}" viewBox="0 0 ${size} ${size}" shape-rendering="crispEdges"><path d="${path}" fill="#000"/></svg>`
}
