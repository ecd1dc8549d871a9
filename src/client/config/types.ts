/** The programs that we can show the way: each is one small file beside this one. */
export const CLIENTS = ['claude-code', 'claude-desktop', 'cursor', 'vscode', 'windsurf', 'zed', 'codex', 'gemini', 'chatgpt'] as const
export type Client = (typeof CLIENTS)[number]

/** The client starts the shim, which has a certificate of its own: nothing secret stands in the client's file. */
export interface ShimEntry {
  /** the entry's name in the client's file */
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

/** The client speaks HTTP to the web listener itself, and signs in there (OAuth): nothing secret stands in its file either. */
export interface UrlEntry {
  readonly name: string
  readonly url: string
}

export type Entry = ShimEntry | UrlEntry

/** Where we are: what decides which files a client reads. */
export interface Place {
  readonly home: string
  readonly env: NodeJS.ProcessEnv
  readonly platform: NodeJS.Platform
}

/** A server as a client's file has it. */
export interface Written {
  /** the keys that lead to it in the file */
  readonly at: readonly string[]
  readonly name: string
  readonly value: unknown
}

/** How a kind of file keeps servers. All of it is pure; what does not change keeps every byte. Throws `invalid_document`. */
export interface Format {
  list(text: string): readonly Written[]
  /** What stands at these keys, wherever servers are. */
  get(text: string, at: readonly string[]): unknown
  /** `at` undefined: where this client keeps the servers of the user. */
  set(text: string, name: string, value: unknown, at?: readonly string[]): string
  remove(text: string, name: string, at?: readonly string[]): string
}

export interface ClientForm {
  readonly title: string
  readonly format: Format
  /** The file with this user's servers; absent: on this computer there is none. */
  readonly file?: (place: Place) => string
  /** Further files of this user that it reads servers from. */
  readonly also?: (place: Place) => readonly { readonly file: string; readonly format?: Format }[]
  /** The file of a project, below its folder. */
  readonly project?: string
  /** An entry as the file has it; undefined: this client cannot be told so in a file. */
  readonly value: (entry: Entry) => unknown
  /** What a person clicks where no file does it. */
  readonly clicks?: (entry: Entry) => readonly string[] | undefined
  /** Whose servers, far from here, call a URL that it is given; absent: this computer does. */
  readonly callsFrom?: string
  /** A link that installs the entry when it is opened. */
  readonly link?: (entry: Entry) => string | undefined
  /** What to do so that the client sees the change. */
  readonly after: string
}
