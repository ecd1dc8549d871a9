import { spawn } from 'node:child_process'

/** https, or http on this computer: what is opened for a person. */
export const isOpenable = (url: URL): boolean =>
  url.protocol === 'https:' || (url.protocol === 'http:' && ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname))

/**
 * Shows a page in the person's browser. Never through a shell: the address was made by a server (CVE-2025-6514). False for an
 * address that is not opened; `failed` is told where nothing opens it: the person has it before him all the same.
 */
export function openBrowser(url: URL, failed: () => void): boolean {
  if (!isOpenable(url)) return false
  const [program, ...before] =
    process.platform === 'darwin' ? ['open'] : process.platform === 'win32' ? ['rundll32', 'url.dll,FileProtocolHandler'] : ['xdg-open']
  const child = spawn(program!, [...before, url.href], { stdio: 'ignore', detached: true })
  child.once('error', failed)
  // It is there and has no browser to give it to. (What became a browser of its own, and was closed in the end, has opened it.)
  child.once('exit', (code) => {
    if (code !== 0 && code !== null) failed()
  })
  child.unref()
  return true
}
