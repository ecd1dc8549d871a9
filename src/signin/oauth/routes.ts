/** Where the OAuth server answers; `/oauth/consent/<uid>` is a page. */
export const ROUTES = {
  authorization: '/oauth/authorize',
  token: '/oauth/token',
  revocation: '/oauth/revoke',
  registration: '/oauth/register',
  consent: '/oauth/consent',
} as const

/** The prefix makes browsers hold us to it: this host alone, TLS only (RFC 6265bis 4.1.3.2). */
export const INTERACTION_COOKIE = '__Host-chaperone-oauth'
