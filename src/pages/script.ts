/**
 * The one script of the pages; all of them work without it, passkeys apart. It touches the document only by properties, never by HTML
 * (Trusted Types are on and there is no policy), and what it reads from the page is what the server wrote there.
 */
export const SCRIPT = `'use strict'
const token = document.querySelector('meta[name="form-token"]')?.content ?? ''
const alertBox = document.getElementById('alert')
const say = (text) => {
  if (!alertBox) return
  alertBox.textContent = text
  alertBox.hidden = false
  alertBox.scrollIntoView({ block: 'nearest' })
}
const send = async (path, body) => {
  const answer = await fetch(path, {
    method: 'POST',
    credentials: 'same-origin',
    headers: { 'Content-Type': 'application/json', 'X-Form-Token': token },
    body: JSON.stringify(body),
  })
  const said = await answer.json()
  if (!answer.ok) throw new Error([said.error?.message, said.error?.fix].filter(Boolean).join(' ') || 'That did not work.')
  return said
}

// The secret of an invitation stands behind the # of the address, where no server and no log sees it. It is put into the form, and the
// address is cleaned, so that it does not stay in the history. It is not sent: a link must not make this browser somebody else's.
const secretField = document.querySelector('input[data-from-fragment]')
if (secretField && location.hash.length > 1) {
  secretField.value = location.hash.slice(1)
  history.replaceState(null, '', location.pathname)
  secretField.form.querySelector('button').focus()
}

if (window.PublicKeyCredential && PublicKeyCredential.parseRequestOptionsFromJSON) {
  for (const button of document.querySelectorAll('button[data-passkey]')) {
    button.hidden = false
    const form = button.form
    button.addEventListener('click', async () => {
      if (button.dataset.passkey !== 'sign-in' && !form.reportValidity()) return
      const fields = Object.fromEntries(new FormData(form))
      delete fields.token
      button.disabled = true
      try {
        const { challenge, options } = await send(button.dataset.path, fields)
        const key =
          button.dataset.passkey === 'add'
            ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
            : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) })
        form.elements.passkey.value = JSON.stringify({ challenge, response: key.toJSON() })
        form.noValidate = true
        form.submit()
      } catch (error) {
        button.disabled = false
        say(error.name === 'NotAllowedError' ? 'The passkey was not used.' : error.name === 'InvalidStateError' ? 'This device has a passkey of yours already.' : error.message)
      }
    })
  }
}

// What is on the page may have changed meanwhile. It is loaded again, unless somebody is writing into it: then he is told.
const live = document.querySelector('[data-events]')
if (live) {
  let events
  const fields = [...document.querySelectorAll('main input:not([type=hidden]), main textarea, main select')]
  const stateOf = () => fields.map((field) => (field.type === 'checkbox' ? field.checked : field.value)).join()
  const before = stateOf()
  const again = () => location.replace(live.dataset.page)
  const watch = () => {
    events = new EventSource(live.dataset.events)
    events.addEventListener('message', () => {
      if (stateOf() === before) return again()
      events.close()
      say('This has changed since the page was loaded. Load it again before you decide.')
    })
  }
  // A tab that nobody sees holds no connection: a browser has six for a host.
  document.addEventListener('visibilitychange', () => (document.hidden ? events?.close() : watch()))
  if (!document.hidden) watch()
}
`
