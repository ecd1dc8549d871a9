/** The part of `oidc-provider` that provider.ts uses; the package brings no types. */
declare module 'oidc-provider' {
  import type { IncomingMessage, ServerResponse } from 'node:http'

  export interface Client {
    readonly clientId: string
    readonly clientName?: string
    readonly redirectUris: readonly string[]
    readonly clientAuthMethod: string
    grantTypeAllowed(type: string): boolean
  }

  export interface Interaction {
    readonly uid: string
    readonly exp: number
    readonly returnTo: string
    readonly params: Readonly<Record<string, unknown>>
    result?: unknown
    save(seconds: number): Promise<string>
  }

  export interface Grant {
    readonly jti: string
    addResourceScope(resource: string, scope: string): void
    save(): Promise<string>
    destroy(): Promise<void>
  }

  /** An access token, of whatever grant, just before it is saved. */
  export interface Token {
    readonly kind: 'AccessToken' | 'ClientCredentials'
    readonly clientId: string
    readonly grantId?: string
    readonly aud?: string | readonly string[]
    readonly scope?: string
  }

  export interface OidcContext {
    readonly route: string
    readonly client: Client
    readonly params: Record<string, unknown>
    readonly issuer: string
    readonly result?: { readonly consent?: { readonly grantId?: string } }
    readonly entities: {
      readonly RefreshToken?: { readonly grantId: string; readonly scope?: string; readonly resource?: string | readonly string[] }
    }
  }

  /** Koa's. */
  export interface Context {
    readonly req: IncomingMessage
    readonly res: ServerResponse
    readonly path: string
    readonly method: string
    query: Record<string, string | string[] | undefined>
    status: number
    body: unknown
    type: string
    readonly oidc: OidcContext
    readonly response: { get(name: string): string | string[] }
    set(name: string, value: string | string[]): void
    remove(name: string): void
  }

  export namespace errors {
    class OIDCProviderError extends Error {
      readonly error: string
      readonly statusCode: number
    }
    class InvalidClient extends OIDCProviderError {
      constructor(description?: string, detail?: string)
    }
    /** The client is told only that it could not be authenticated. */
    class InvalidClientAuth extends OIDCProviderError {
      constructor(detail?: string)
    }
    class InvalidClientMetadata extends OIDCProviderError {
      constructor(description?: string, detail?: string)
    }
    class InvalidGrant extends OIDCProviderError {
      constructor(detail?: string)
    }
    class InvalidScope extends OIDCProviderError {
      constructor(description: string, scope: string)
    }
    class InvalidRequest extends OIDCProviderError {
      constructor(description?: string)
    }
    class InvalidTarget extends OIDCProviderError {
      constructor(description?: string)
    }
    class TemporarilyUnavailable extends OIDCProviderError {
      constructor(description?: string)
    }
  }

  export namespace interactionPolicy {
    class Check {
      constructor(reason: string, description: string, error: string, check: (context: Context) => boolean | Promise<boolean>)
    }
    class Prompt {
      constructor(info: { name: string; requestable: boolean }, ...checks: Check[])
    }
  }

  export class Provider {
    constructor(issuer: string, configuration: object)
    proxy: boolean
    readonly Client: { find(id: string): Promise<Client | undefined> }
    readonly Interaction: { find(id: string): Promise<Interaction | undefined> }
    readonly Grant: new (given: {
      accountId: string
      clientId: string
    }) => Grant
    callback(): (request: IncomingMessage, response: ServerResponse) => Promise<void>
    use(middleware: (context: Context, next: () => Promise<void>) => Promise<void>): this
    on(event: string, listener: (...given: readonly never[]) => void): this
    registerGrantType(name: string, handler: (context: Context) => Promise<void>, parameters: readonly string[], dupes?: readonly string[]): void
  }
}
