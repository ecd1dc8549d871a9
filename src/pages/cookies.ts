import type { Cookie } from '../signin/browser.ts'

/** The prefix makes browsers hold us to it: this host alone, every path, TLS only (RFC 6265bis 4.1.3.2). */
export const BROWSER_COOKIE = '__Host-chaperone-browser'
export const SESSION_COOKIE = '__Host-chaperone-session'

type Name = typeof BROWSER_COOKIE | typeof SESSION_COOKIE

/** The value of a cookie. Undefined when it is not there, and when it is there twice: one of the two is somebody else's. */
export function cookieIn(header: string | null, name: Name): string | undefined {
  const values = (header ?? '').split(';').flatMap((pair) => {
    const at = pair.indexOf('=')
    return at > 0 && pair.slice(0, at).trim() === name ? [pair.slice(at + 1).trim()] : []
  })
  return values.length === 1 ? values[0] : undefined
}

export function setCookie(name: Name, { secret, expiresAt }: Cookie, now: number): string {
  const seconds = Math.max(0, Math.floor((expiresAt - now) / 1000))
  return `${name}=${secret}; Path=/; Max-Age=${seconds}; Secure; HttpOnly; SameSite=Strict`
}

export const clearCookie = (name: Name): string => `${name}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict`
