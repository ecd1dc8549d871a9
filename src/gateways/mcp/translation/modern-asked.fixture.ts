import { goodAnswers, type Json, type stage } from './modern-client.fixture.ts'

export const call = (more: Json = {}) => ({ name: 'tool', arguments: { a: 1 }, ...more })

/** A server that asks this during a call, and says in its result what it was answered. */
export const asking =
  (method: string, params: Json = {}) =>
  (one: Json) => {
    void one.ask(method, params).then((answer: Json) => {
      if (!one.signal.aborted) one.result({ content: [{ type: 'text', text: JSON.stringify(answer) }] })
    })
  }

export const form = { message: 'who?', requestedSchema: { type: 'object', properties: {} } }

/** Until what the server asked has reached the client. */
export const round = async ({ clock, settle }: ReturnType<typeof stage>) => {
  await settle()
  clock.advance(10)
  await settle()
}

/** The same call again, with good answers to all that the client was asked. */
export const retry = (given: Json, more: Json = {}) =>
  call({ requestState: given.result.requestState, inputResponses: goodAnswers(given.result.inputRequests), ...more })
