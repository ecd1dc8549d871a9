import type { DirectorySpec } from '../../catalog/directory.ts'
import { compileGlob } from '../../encoding/glob.ts'
import { ChaperoneError } from '../../errors.ts'

export type Claims = Readonly<Record<string, unknown>>

/** What an ID token (and what the provider says beside it) tells of the person who has just signed in. */
export interface Introduced {
  readonly sub: string
  /** as the directory writes it */
  readonly userName: string
  readonly email?: string
  readonly groups: readonly string[]
  readonly traits: Readonly<Record<string, unknown>>
  /** the claim that is `externalId` of SCIM */
  readonly match?: string
  /** The directory vouches for a second factor, and its document lets that count. */
  readonly factor: boolean
}

const MOST_GROUPS = 2_000
const LONGEST_TRAIT = 1_024
/** How long ago he may have given his second factor at the provider, when he comes back from there. */
const FACTOR_GIVEN_S = 90
export const CLOCKS_APART_S = 30

const own = (claims: Claims, name: string): unknown => (Object.hasOwn(claims, name) ? claims[name] : undefined)
const textIn = (claims: Claims, name: string): string | undefined => {
  const value = own(claims, name)
  return typeof value === 'string' && value !== '' ? value : undefined
}

/** The claims that a document asks for: when one is not in the ID token, it is looked for at the provider. */
export const claimsAsked = (spec: DirectorySpec): readonly string[] => [
  ...Object.keys(spec.allow),
  spec.name.claim,
  ...(spec.groups === 'scim' || Object.keys(spec.roles).every((group) => group === '*') ? [] : [spec.groups]),
  ...Object.values(spec.traits),
  ...(spec.scim ? [spec.match] : []),
]

/**
 * What the claims say of the person, by the rules of the document. Throws `directory_refused`, which names the claim that did not fit as the
 * person's own token has it, and never the rule.
 */
export function toldBy(spec: DirectorySpec, claims: Claims, now: number): Introduced {
  for (const [name, rule] of Object.entries(spec.allow)) {
    const value = own(claims, name)
    if (!fits(rule, value))
      throw new ChaperoneError(
        'directory_refused',
        `You may not come in: ${value === undefined ? `your sign-in says no \`${name}\`` : `\`${name}\` is ${shown(value)}`}.`,
        {
          fix: 'Sign in with another account, or ask whoever administers Chaperone.',
          detail: `the rule for ${name} is ${JSON.stringify(rule)}`,
        },
      )
  }
  const sub = textIn(claims, 'sub')
  // OpenID Connect Core 2: at most 255 ASCII characters.
  if (sub === undefined || sub.length > 255) throw wrong('says no `sub`')
  const userName = textIn(claims, spec.name.claim)
  if (userName === undefined || userName.length > 256) throw wrong(`says no \`${spec.name.claim}\`, from which a name would come`)
  const email = textIn(claims, 'email')
  // Where anybody writes any address into his account, it would name him as a colleague (OpenID Connect Core 5.7). Entra says nothing of it.
  const rests = spec.name.claim === 'email' || Object.hasOwn(spec.allow, 'email')
  if (rests && [false, 'false'].includes(own(claims, 'email_verified') as never))
    throw wrong('says that it has not verified your `email`', 'Verify your address there, and sign in again.')
  const match = textIn(claims, spec.match)
  return {
    sub,
    userName,
    ...(email === undefined ? {} : { email: email.slice(0, 256) }),
    groups: spec.groups === 'scim' ? [] : groupsIn(spec.groups, claims),
    traits: traitsFrom(spec.traits, (name) => own(claims, name)),
    ...(match === undefined ? {} : { match }),
    factor: spec.factor !== 'own' && factorIn(spec, claims) && justNow(claims, now),
  }
}

function groupsIn(claim: string, claims: Claims): readonly string[] {
  const elsewhere = own(claims, '_claim_names')
  // Entra leaves the groups out when there are many, and says where they could be asked for. To take that for "none" would be wrong
  // in both directions: rights would be lost here, and a rule that denies by group would not hold.
  if (typeof elsewhere === 'object' && elsewhere !== null && Object.hasOwn(elsewhere, claim))
    throw wrong(
      `has too many groups to say them in \`${claim}\``,
      'Have the directory send only the groups that are assigned to this application, or use SCIM.',
    )
  const value = own(claims, claim)
  const groups = typeof value === 'string' ? [value] : value
  if (groups === undefined || groups === null) return []
  if (!Array.isArray(groups) || groups.length > MOST_GROUPS || groups.some((one) => typeof one !== 'string' || one.length > 256))
    throw wrong(`says \`${claim}\` in a form that is no list of groups`)
  return [...new Set(groups as string[])].sort()
}

/** The traits that a document names, as far as they are there. */
export function traitsFrom(traits: DirectorySpec['traits'], read: (name: string) => unknown): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(traits).flatMap(([trait, name]) => {
      const value = read(name)
      return isTrait(value) ? [[trait, value]] : []
    }),
  )
}

const isTrait = (value: unknown): boolean =>
  Array.isArray(value)
    ? value.length <= 100 && value.every((one) => typeof one === 'string' && one.length <= LONGEST_TRAIT)
    : (typeof value === 'string' && value.length <= LONGEST_TRAIT) || typeof value === 'number' || typeof value === 'boolean'

function factorIn({ factor_values }: DirectorySpec, claims: Claims): boolean {
  const said = [own(claims, 'amr') ?? [], own(claims, 'acr') ?? []].flat()
  return said.some((one) => typeof one === 'string' && factor_values.includes(one))
}

/** What somebody gave this morning, and a cookie at the provider has stood for since, is no factor of now: whoever sits down at his computer has that. */
function justNow(claims: Claims, now: number): boolean {
  const at = own(claims, 'auth_time')
  const age = typeof at === 'number' ? now / 1000 - at : Number.NaN
  return age <= FACTOR_GIVEN_S && age >= -CLOCKS_APART_S
}

/** A list of claims fits when one of its values does. */
function fits(rule: DirectorySpec['allow'][string], value: unknown): boolean {
  if (typeof rule === 'boolean') return value === rule
  const patterns = [rule].flat().map(compileGlob)
  return [value].flat().some((one) => typeof one === 'string' && patterns.some((matches) => matches(one)))
}

const shown = (value: unknown) => `${JSON.stringify(value)}`.slice(0, 80)

const wrong = (why: string, fix = "Whoever administers the directory looks at the application's claims.") =>
  new ChaperoneError('directory_refused', `The directory ${why}.`, { fix })
