import { isGlob } from '../../encoding/glob.ts'

/**
 * Of claims that say whose a workload is: whether a value of a rule really says it. `octo*` is also `octo-evil`, which
 * anybody may register.
 */
export type Telling = (pattern: string) => boolean

/** No wildcard at all. */
export const whole: Telling = (pattern) => !isGlob(pattern)

/** Wildcards only behind the first slash: the owner is written out. */
export const afterSlash: Telling = (pattern) => {
  const slash = pattern.indexOf('/')
  return whole(slash < 0 ? pattern : pattern.slice(0, slash))
}

/** `arn:aws:sts::123456789012:...`: the account is written out. */
export const afterAccount: Telling = (pattern) => {
  const parts = pattern.split(':')
  return parts.length >= 6 && parts.slice(0, 5).every(whole)
}

/** Anything but a lone `*`. */
export const notEverything: Telling = (pattern) => !/^[*?]+$/.test(pattern)

/**
 * The `sub` of GitHub, which a repository may put together otherwise: `environment:prod` alone is everybody's who calls one so. What
 * says whose it is must stand in it, before any wildcard; a colon in a value is written `%3A`.
 */
export const githubSubject: Telling = (pattern) => {
  const [fixed = ''] = pattern.split(/[*?]/)
  const written = isGlob(pattern) ? fixed.slice(0, fixed.lastIndexOf(':') + 1) : fixed
  return (
    /(?:^|:)(?:repository_id|repository_owner|repository_owner_id|enterprise|enterprise_id):[^:]/.test(written) ||
    /(?:^|:)(?:repo|repository):[^:/]+\//.test(fixed)
  )
}
