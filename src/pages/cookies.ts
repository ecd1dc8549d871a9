import type { Cookie } from '../signin/browser.ts'

/** The prefix makes browsers hold us to it: this host alone, every path, TLS only (RFC 6265bis 4.1.3.2). */
export const BROWSER_COOKIE = '__Host-chaperone-browser'
export const SESSION_COOKIE = '__Host-chaperone-session'
/** Says that who comes back from a directory is who went there. */
export const FLOW_COOKIE = '__Host-chaperone-directory'

type Name = typeof BROWSER_COOKIE | typeof SESSION_COOKIE | typeof FLOW_COOKIE

/** The value of a cookie. Undefined when it is not there, and when it is there twice: one of the two is somebody else's. */
export function cookieIn(header: string | null, name: Name): string | undefined {
  const values = (header ?? '').split(';').flatMap((pair) => {
    const at = pair.indexOf('=')
    return at > 0 && pair.slice(0, at).trim() === name ? [pair.slice(at + 1).trim()] : []
  })
  return values.length === 1 ? values[0] : undefined
}

export function setCookie(name: Exclude<Name, typeof FLOW_COOKIE>, cookie: Cookie, now: number): string {
  return written(name, cookie, now, 'Strict')
}

/** It comes back with a navigation that another site begins, which brings no cookie that is Strict. It opens nothing by itself. */
export const flowCookie = (cookie: Cookie, now: number): string => written(FLOW_COOKIE, cookie, now, 'Lax')

function written(name: Name, { secret, expiresAt }: Cookie, now: number, sameSite: 'Strict' | 'Lax'): string {
  const seconds = Math.max(0, Math.floor((expiresAt - now) / 1000))
  return `${name}=${secret}; Path=/; Max-Age=${seconds}; Secure; HttpOnly; SameSite=${sameSite}`
}

export const clearCookie = (name: Name): string => `${name}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict`
