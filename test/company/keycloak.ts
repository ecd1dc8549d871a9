/**
 * npm run test:keycloak: Keycloak itself, set up as docs/sign-in-with-keycloak.md says, and a real browser. Brought by Maven when it is
 * wanted (150 MB; or name one with CHAPERONE_KEYCLOAK); skipped with a line where it cannot be.
 */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import type { Page } from 'playwright-core'
import { beginDeviceSignIn } from '../../src/client/device-sign-in.ts'
import { findIdentity } from '../../src/identity/directory.ts'
import { stepAt, totpCode } from '../../src/signin/totp.ts'
import { launch, noChromium, profile } from '../pages/chromium.ts'
import { apply, governed } from '../parts/governed.ts'
import { type Keycloak, keycloakHome, startKeycloak } from './keycloak-process.ts'

const home = await keycloakHome().catch((error: Error) => error)
const skip = home instanceof Error ? `no Keycloak here: ${home.message.split('\n')[0]}` : noChromium

const REALM = '/realms/example'

/** What the guide has an administrator click, said to the interface that the console itself uses. */
async function realm(keycloak: Keycloak, web: string) {
  await keycloak.admin('POST', '/realms', { realm: 'example', enabled: true })
  const secret = 'of-the-client-in-keycloak'
  const client = await keycloak.admin<string>('POST', `${REALM}/clients`, {
    clientId: 'chaperone',
    protocol: 'openid-connect',
    publicClient: false,
    secret,
    standardFlowEnabled: true,
    directAccessGrantsEnabled: false,
    serviceAccountsEnabled: false,
    redirectUris: [`https://${web}/signin/with/keycloak/callback`],
    frontchannelLogout: false,
    attributes: {
      'pkce.code.challenge.method': 'S256',
      'backchannel.logout.url': `https://${web}/signin/with/keycloak/logout`,
      'backchannel.logout.session.required': 'true',
    },
  })
  await keycloak.admin('POST', `${REALM}/clients/${client}/protocol-mappers/models`, {
    name: 'groups',
    protocol: 'openid-connect',
    protocolMapper: 'oidc-group-membership-mapper',
    config: {
      'claim.name': 'groups',
      'full.path': 'false',
      'id.token.claim': 'true',
      'access.token.claim': 'false',
      'userinfo.token.claim': 'false',
    },
  })
  // As the guide says it under "Second factor": the form for a code says `otp`, and a mapper puts that into `amr`.
  await keycloak.admin('POST', `${REALM}/clients/${client}/protocol-mappers/models`, {
    name: 'amr',
    protocol: 'openid-connect',
    protocolMapper: 'oidc-amr-mapper',
    config: { 'id.token.claim': 'true', 'access.token.claim': 'false' },
  })
  const executions = await keycloak.admin<{ id: string; providerId?: string }[]>('GET', `${REALM}/authentication/flows/browser/executions`)
  const form = executions.find(({ providerId }) => providerId === 'auth-otp-form')!
  await keycloak.admin('POST', `${REALM}/authentication/executions/${form.id}/config`, {
    alias: 'otp',
    config: { 'default.reference.value': 'otp', 'default.reference.maxAge': '300' },
  })
  const groups: Record<string, string> = {}
  for (const name of ['engineering', 'ops']) groups[name] = await keycloak.admin<string>('POST', `${REALM}/groups`, { name })
  const otp = {
    type: 'otp',
    secretData: JSON.stringify({ value: OTP }),
    credentialData: JSON.stringify({ subType: 'totp', period: 30, digits: 6, algorithm: 'HmacSHA1' }),
  }
  const user = async (username: string, member?: string, more: readonly unknown[] = []) => {
    const id = await keycloak.admin<string>('POST', `${REALM}/users`, {
      username,
      enabled: true,
      email: `${username}@example.com`,
      emailVerified: true,
      firstName: username,
      lastName: 'Example',
      credentials: [{ type: 'password', value: PASSWORD, temporary: false }, ...more],
    })
    if (member) await keycloak.admin('PUT', `${REALM}/users/${id}/groups/${groups[member]}`)
    return id
  }
  return { secret, groups, mara: await user('mara', 'engineering'), outsider: await user('outsider'), otto: await user('otto', 'engineering', [otp]) }
}

const PASSWORD = 'a-password-of-the-test'
const OTP = 'a-secret-of-an-app-20'

/** The document of the guide itself, with this Keycloak in it. */
async function fromGuide(keycloak: Keycloak): Promise<string> {
  const guide = await readFile(new URL('../../docs/sign-in-with-keycloak.md', import.meta.url), 'utf8')
  const document = /```yaml\n(kind: directory\n[^`]+)```/.exec(guide)![1]!
  const [issuer] = /https:\/\/keycloak\.example\.com\/realms\/example/.exec(document)!
  return `${document.replace(issuer, `${keycloak.origin}${REALM}`)}  allow_private: true\n  ca: |\n${keycloak.ca.replace(/^/gm, '    ')}\n`
}

test('people of a real Keycloak come in by a real browser, get what their groups give, and lose it again', { skip, timeout: 590_000 }, async (t) => {
  const { server, dana } = await governed(t)
  const { web } = server.parts.places
  const keycloak = await startKeycloak(t, home as string, dana.profile.bundles.server)
  const { secret, groups, mara } = await realm(keycloak, web)
  // A slow machine takes more than five minutes until here.
  await dana.freshFactor()
  await dana.api.call('PUT', '/v1/secrets/keycloak', { value: secret })
  await apply(dana, `kind: role\nname: developer\nspec: { allow: [ { chaperone: any, verbs: [audit.read] } ] }\n---\n${await fromGuide(keycloak)}`)
  const browser = await launch()
  t.after(() => browser.close())
  const { db } = server.parts.store
  const rolesOf = async (name: string) => (await findIdentity(db, { name }))?.roles

  const press = async (page: Page, next = '/requests') => {
    // Whoever is not signed in is asked to where he wanted to go.
    await page.goto(`https://${web}${next}`)
    await page.click('button:has-text("Sign in with Keycloak")')
    await page.waitForURL((url) => url.href.startsWith(keycloak.origin) || (url.host === web && url.pathname !== '/signin/with'))
  }
  const typeIn = async (page: Page, name: string) => {
    await page.fill('#username', name)
    await page.fill('#password', PASSWORD)
    await page.click('#kc-login')
    await page.waitForURL((url) => url.host === web && (!url.search.includes('code=') || url.searchParams.has('on')))
  }
  const signIn = async (name: string, next?: string): Promise<Page> => {
    const page = await (await profile(browser)).newPage()
    await press(page, next)
    await typeIn(page, name)
    return page
  }

  await t.test('who has a group that may come in is signed in with its role; who has none is told which claim', async () => {
    const page = await signIn('mara')
    assert.equal(new URL(page.url()).pathname, '/requests')
    assert.match((await page.textContent('header'))!, /mara/)
    assert.deepEqual(await rolesOf('mara'), ['developer'])
    const turned = await signIn('outsider')
    assert.match((await turned.textContent('main'))!, /You may not come in: your sign-in says no `groups`/)
    assert.equal(await findIdentity(db, { name: 'outsider' }), undefined)
  })

  await t.test('a session that ends there ends here at once (Back-Channel Logout)', async () => {
    const page = await signIn('mara')
    const signIns = () => db.selectFrom('directory_signins').select(['sid', 'end_reason']).orderBy('created_at', 'desc').execute()
    const [newest] = await signIns()
    const began = performance.now()
    await keycloak.admin('DELETE', `${REALM}/sessions/${newest!.sid}`)
    t.diagnostic(`Keycloak and we were done after ${Math.round(performance.now() - began)} ms`)
    assert.deepEqual(
      (await signIns()).map((one) => one.end_reason),
      ['provider', null],
      'that one, and no other of hers',
    )
    await page.goto(`https://${web}/account`)
    assert.match((await page.textContent('main'))!, /Sign in with Keycloak/)
  })

  await t.test('her terminal, with a sign-in of this very moment', async () => {
    const terminal = await beginDeviceSignIn({ address: dana.profile.address, authorities: dana.profile.bundles.server })
    const page = await signIn('mara', '/device')
    await page.fill('#user_code', terminal.code)
    await page.click('button:text-is("Go on")')
    await page.click('button:text-is("Yes, this is my terminal")')
    await page.waitForSelector('h1:text-is("Done")')
    const signedIn = await terminal.finish(new AbortController().signal)
    terminal.close()
    assert.equal(signedIn.identity.name, 'mara')
  })

  await t.test('factor: directory: a code given at Keycloak itself is the second step for a terminal, and a password alone is none', async () => {
    const document = await fromGuide(keycloak)
    await dana.freshFactor()
    await apply(dana, document.replace('  create: true\n', '  create: true\n  factor: directory\n'))
    const terminal = await beginDeviceSignIn({ address: dana.profile.address, authorities: dana.profile.bundles.server })
    const open = async (page: Page) => {
      await page.fill('#user_code', terminal.code)
      await page.click('button:text-is("Go on")')
      await page.waitForSelector('h1:text-is("Sign in this terminal?")')
    }
    const plain = await signIn('mara', '/device')
    await open(plain)
    assert.match((await plain.textContent('main'))!, /said nothing of a second factor/)
    const page = await (await profile(browser)).newPage()
    await press(page, '/device')
    await page.fill('#username', 'otto')
    await page.fill('#password', PASSWORD)
    await page.click('#kc-login')
    await page.fill('#otp', totpCode(Buffer.from(OTP), stepAt(Date.now())))
    await page.click('#kc-login')
    await page.waitForURL((url) => url.host === web && url.pathname === '/device')
    await open(page)
    await page.click('button:text-is("Yes, this is my terminal")')
    await page.waitForSelector('h1:text-is("Done")')
    const held = await terminal.finish(new AbortController().signal)
    terminal.close()
    const row = await db.selectFrom('sessions').select('factor_by').where('id', '=', held.session).executeTakeFirstOrThrow()
    assert.deepEqual([held.identity.name, row.factor_by], ['otto', 'directory'])
    // A slow machine takes more than five minutes for all this.
    await dana.freshFactor()
    await apply(dana, document)
  })

  await t.test('a group that is lost takes its role with it at the next sign-in', async () => {
    await keycloak.admin('PUT', `${REALM}/users/${mara}/groups/${groups.ops}`)
    await keycloak.admin('DELETE', `${REALM}/users/${mara}/groups/${groups.engineering}`)
    await signIn('mara')
    assert.deepEqual(await rolesOf('mara'), [])
    await keycloak.admin('PUT', `${REALM}/users/${mara}/groups/${groups.engineering}`)
    await signIn('mara')
    assert.deepEqual(await rolesOf('mara'), ['developer'])
  })

  await t.test('Keycloak has new keys, and has taken the old ones away', async () => {
    const { id } = await keycloak.admin<{ id: string }>('GET', REALM)
    const all = await keycloak.admin<{ id: string; providerId: string }[]>(
      'GET',
      `${REALM}/components?parent=${id}&type=org.keycloak.keys.KeyProvider`,
    )
    await keycloak.admin('POST', `${REALM}/components`, {
      name: 'newer',
      providerId: 'rsa-generated',
      providerType: 'org.keycloak.keys.KeyProvider',
      parentId: id,
      config: { priority: ['200'], keySize: ['2048'] },
    })
    for (const one of all.filter(({ providerId }) => providerId === 'rsa-generated')) await keycloak.admin('DELETE', `${REALM}/components/${one.id}`)
    const page = await signIn('mara')
    assert.equal(new URL(page.url()).pathname, '/requests', (await page.textContent('main').catch(String)) as string)
  })

  await t.test('who is disabled there is out with the next look (recheck), and does not come in any more', async () => {
    const inside = await signIn('mara')
    await keycloak.admin('PUT', `${REALM}/users/${mara}`, { enabled: false })
    await inside.goto(`https://${web}/account`)
    assert.match((await inside.textContent('header'))!, /mara/, 'Keycloak says nothing of it by itself')
    // What happens every 15 minutes.
    await server.parts.store.write((trx) => trx.updateTable('directory_signins').set({ next_at: 1 }).execute())
    await server.parts.recheck.round()
    await inside.goto(`https://${web}/account`)
    assert.match((await inside.textContent('main'))!, /Sign in with Keycloak/)
    const page = await (await profile(browser)).newPage()
    await press(page)
    await page.fill('#username', 'mara')
    await page.fill('#password', PASSWORD)
    await page.click('#kc-login')
    await page.waitForSelector('text=Account is disabled')
  })
})
