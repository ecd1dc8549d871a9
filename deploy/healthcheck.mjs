// Asks the web listener of this machine whether this node is ready. What vouches for its certificate does not matter here: nothing is sent.
import { request } from 'node:https'

const [host, port] = (process.argv[2] ?? '127.0.0.1:7444').split(':')
const asked = request({ host, port, path: '/readyz', rejectUnauthorized: false, timeout: 4000 }, (answer) => {
  answer.resume()
  process.exitCode = answer.statusCode === 200 ? 0 : 1
})
asked.once('timeout', () => asked.destroy(new Error('no answer')))
asked.once('error', (error) => {
  console.error(error.message)
  process.exitCode = 1
})
asked.end()
