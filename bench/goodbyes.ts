import { subscribe } from 'node:diagnostics_channel'
import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { NodeEnds } from './lock-node.ts'
import { micros } from './micros.ts'

interface End {
  readonly began: number
  readonly ended: number
}

/**
 * When this process ended the answers and connections that it had open, as node does it: `end` has given the bytes to the system
 * when it returns, as long as the client takes them. Nothing of the product is changed for it.
 */
export function watchGoodbyes(): { since(at: number): NodeEnds } {
  const began = new WeakMap<object, number>()
  let calls: End[] = []
  let statements: End[] = []
  subscribe('http.server.request.start', (message) => {
    const { response } = message as { readonly request: IncomingMessage; readonly response: ServerResponse }
    began.set(response, micros())
  })
  subscribe('net.server.socket', (message) => began.set((message as { readonly socket: Socket }).socket, micros()))

  const endAnswer = ServerResponse.prototype.end
  ServerResponse.prototype.end = function (this: ServerResponse, ...args: never[]) {
    const result = (endAnswer as (...args: never[]) => ServerResponse).apply(this, args)
    calls.push({ began: began.get(this) ?? 0, ended: micros() })
    return result
  } as typeof endAnswer

  const endSocket = TLSSocket.prototype.end
  TLSSocket.prototype.end = function (this: TLSSocket & { readonly _parent?: object }, ...args: never[]) {
    const first = !this.writableEnded
    const result = (endSocket as (...args: never[]) => TLSSocket).apply(this, args)
    // The socket below is one that was accepted; those to databases were not.
    const at = this._parent && began.get(this._parent)
    if (first && at !== undefined) statements.push({ began: at, ended: micros() })
    return result
  } as typeof endSocket

  return {
    since(at) {
      const under = (ends: readonly End[]) => ends.filter(({ began, ended }) => began < at && ended >= at).map(({ ended }) => ended)
      const ends = { calls: under(calls), statements: under(statements) }
      calls = []
      statements = []
      return ends
    },
  }
}
