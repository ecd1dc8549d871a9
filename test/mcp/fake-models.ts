import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/**
 * The model behind Claude Code, Codex and Gemini CLI, as a script: it calls one tool and then says that it is done. What the
 * client sends with the result is what a real model would read: so that is how a refusal looks to it.
 */
export interface FakeModels {
  readonly url: string
  /** names of all tools that the client offered */
  readonly offered: Set<string>
  /** every text that came back as the result of the call */
  readonly results: string[]
  close(): Promise<void>
}

type Json = Readonly<Record<string, unknown>>
const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value)

/** Every object inside, in order. */
function* objects(value: unknown): Generator<Json> {
  if (Array.isArray(value)) for (const one of value) yield* objects(one)
  else if (isObject(value)) {
    yield value
    for (const one of Object.values(value)) yield* objects(one)
  }
}

interface Turn {
  /** the tool to call, by the name and namespace that the client gave it; undefined: say that it is done */
  readonly tool: { readonly name: string; readonly namespace: string | undefined } | undefined
  readonly args: Json
}

const event = (response: ServerResponse, name: string, data: Json) =>
  response.write(`event: ${name}\ndata: ${JSON.stringify({ type: name, ...data })}\n\n`)

function anthropic(response: ServerResponse, { tool, args }: Turn, stream: boolean): void {
  const block = tool === undefined ? { type: 'text', text: 'done' } : { type: 'tool_use', id: 'toolu_1', name: tool.name, input: args }
  const message = { id: 'msg_1', type: 'message', role: 'assistant', model: 'script', usage: { input_tokens: 1, output_tokens: 1 } }
  const stop = { stop_reason: tool === undefined ? 'end_turn' : 'tool_use', stop_sequence: null }
  if (!stream)
    return void response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ ...message, ...stop, content: [block] }))
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  event(response, 'message_start', { message: { ...message, content: [], stop_reason: null, stop_sequence: null } })
  const [empty, delta] =
    tool === undefined
      ? [
          { type: 'text', text: '' },
          { type: 'text_delta', text: 'done' },
        ]
      : [
          { ...block, input: {} },
          { type: 'input_json_delta', partial_json: JSON.stringify(args) },
        ]
  event(response, 'content_block_start', { index: 0, content_block: empty })
  event(response, 'content_block_delta', { index: 0, delta })
  event(response, 'content_block_stop', { index: 0 })
  event(response, 'message_delta', { delta: stop, usage: { output_tokens: 1 } })
  event(response, 'message_stop', {})
  response.end()
}

function openai(response: ServerResponse, { tool, args }: Turn): void {
  const item =
    tool === undefined
      ? { type: 'message', id: 'm1', role: 'assistant', content: [{ type: 'output_text', text: 'done' }] }
      : {
          type: 'function_call',
          id: 'f1',
          call_id: 'c1',
          name: tool.name,
          arguments: JSON.stringify(args),
          ...(tool.namespace === undefined ? {} : { namespace: tool.namespace }),
        }
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  event(response, 'response.created', { response: { id: 'r1' } })
  event(response, 'response.output_item.done', { output_index: 0, item })
  event(response, 'response.completed', { response: { id: 'r1', output: [item], usage: { input_tokens: 1, output_tokens: 1, total_tokens: 2 } } })
  response.end()
}

function gemini(response: ServerResponse, { tool, args }: Turn, stream: boolean): void {
  const part = tool === undefined ? { text: 'done' } : { functionCall: { name: tool.name, args } }
  const body = {
    candidates: [{ content: { role: 'model', parts: [part] }, finishReason: 'STOP', index: 0 }],
    usageMetadata: { promptTokenCount: 1, candidatesTokenCount: 1, totalTokenCount: 2 },
  }
  if (stream) response.writeHead(200, { 'content-type': 'text/event-stream' }).end(`data: ${JSON.stringify(body)}\n\n`)
  else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

/** Calls the tool whose name ends with `tool`. */
export async function startFakeModels(call: { readonly tool: string; readonly args: Json }): Promise<FakeModels> {
  const offered = new Set<string>()
  const results: string[] = []
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    let text = ''
    for await (const chunk of request) text += chunk
    const path = request.url ?? ''
    let body: unknown
    try {
      body = JSON.parse(text)
    } catch {}
    if (request.method !== 'POST' || !isObject(body)) return void response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    const kind = /\/v1\/messages(\?|$)/.test(path) ? anthropic : /\/responses$/.test(path) ? openai : /enerateContent/.test(path) ? gemini : undefined
    if (kind === undefined) return void response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    let found: Turn['tool']
    const see = (name: unknown, namespace?: string) => {
      if (typeof name !== 'string') return
      offered.add(name)
      if (name.endsWith(call.tool)) found = { name, namespace }
    }
    // Anthropic and OpenAI: a list of tools, or of namespaces with tools; Gemini: a list of lists.
    for (const one of Array.isArray(body.tools) ? (body.tools as unknown[]).filter(isObject) : []) {
      const inner = [one.tools, one.functionDeclarations].find(Array.isArray)
      if (inner === undefined) see(one.name)
      else for (const tool of inner.filter(isObject)) see(tool.name, one.type === 'namespace' ? String(one.name) : undefined)
    }
    const came: string[] = []
    for (const one of objects(body.messages ?? body.input ?? body.contents)) {
      if (one.type === 'tool_result') came.push(JSON.stringify(one.content))
      if (one.type === 'function_call_output') came.push(JSON.stringify(one.output))
      if (isObject(one.functionResponse)) came.push(JSON.stringify(one.functionResponse.response))
    }
    results.push(...came)
    const stream = body.stream === true || path.includes('streamGenerateContent')
    kind(response, { tool: came.length > 0 ? undefined : found, args: call.args }, stream)
  }
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy())
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    offered,
    results,
    async close() {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    },
  }
}
