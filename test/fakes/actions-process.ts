/**
 * GitHub's side of a job, as a process of its own: an OpenID issuer, and the endpoint where the job asks for its token. Prints one
 * line of JSON (issuer, authority, environment of the job whose claims are the first argument) and ends when stdin does.
 */
import { fakeIssuer } from './issuer.ts'

const issuer = await fakeIssuer()
const job = issuer.actionsJob(JSON.parse(process.argv[2] ?? '{}') as Record<string, unknown>)
process.stdout.write(`${JSON.stringify({ issuer: issuer.issuer, ca: issuer.ca, job })}\n`)
process.stdin.resume()
process.stdin.once('end', () => void issuer.close())
