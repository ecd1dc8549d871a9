import type { LiveSession } from '../../../identity/types.ts'

/**
 * Who acts, for the database itself: `current_setting('chaperone.identity')` in a row policy, a trigger or the log. Given
 * with the startup packet, so that RESET ALL and DISCARD ALL lead back here; no statement through Chaperone may set them.
 * Texts of whatever length the packet allows, unlike `application_name`, which the server cuts at 63 bytes of ASCII.
 */
export function identitySettings(session: LiveSession, nameOf: (identityId: string) => string | undefined = () => undefined): Record<string, string> {
  const { principal } = session
  const last = principal.chain.length - 1
  const names = principal.chain.map((link, i) => (i === last ? principal.name : (nameOf(link.identity) ?? link.identity)))
  return {
    'chaperone.identity': principal.identityId,
    'chaperone.name': principal.name,
    'chaperone.chain': (names.length > 0 ? names : [principal.name]).join('>'),
    'chaperone.session': session.id,
    // Always there: a policy that reads one that was never set would fail.
    'chaperone.purpose': session.purpose ?? '',
  }
}
