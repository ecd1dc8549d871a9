/** What one MCP client or server may cost us (rule 11). Bytes, milliseconds, counts. */
export interface McpLimits {
  /** the body of a POST */
  readonly bodyBytes: number
  /** from the first byte of a POST's body to its last */
  readonly bodyMs: number
  /** arrays and objects inside each other in a request */
  readonly depth: number
  /** messages in a batch (2025-03-26 only) */
  readonly batch: number
  /** one line or one event of an upstream server */
  readonly lineBytes: number
  /** response headers of an upstream server */
  readonly headerBytes: number
  /** from the start of a stdio server to its first answer */
  readonly startMs: number
  /** an upstream that says nothing for so long has failed; progress counts as saying something */
  readonly silenceMs: number
  /** a server gets so long to take an answer, a cancellation, the end of a session */
  readonly tellMs: number
  /** a stdio server that does not answer `server/discover` for so long is taken for a legacy one */
  readonly probeMs: number
  /** how long an answer is awaited whose client went away without cancelling (legacy) */
  readonly drainMs: number
  /** an MCP session or child that nobody used for so long ends; an open GET stream is not use */
  readonly idleMs: number
  /** MCP sessions of this process, and of one Chaperone session */
  readonly lanes: number
  readonly lanesPerSession: number
  /** and of one person, with all agents that act for it */
  readonly lanesPerPerson: number
  /** processes of stdio servers that run because of one person, with all agents that act for it: a fraction of all user ids */
  readonly childrenPerPerson: number
  /** HTTP requests under way, streams among them: of one person with all agents that act for it, and of all */
  readonly requestsPerPerson: number
  readonly requests: number
  /** requests in flight in one MCP session */
  readonly inFlight: number
  /** open GET streams in one MCP session */
  readonly streams: number
  /** what waits for a slow client, or for a child that does not read */
  readonly queueBytes: number
  /** kept of a child's stderr */
  readonly stderrBytes: number
  /** from closing a child's stdin until SIGTERM, and until SIGKILL */
  readonly termMs: number
  readonly killMs: number
  /** longest back-off of a child that keeps ending */
  readonly backoffMs: number
  /** a person or model gets so long to answer what a server asked */
  readonly askMs: number
  /** what a server asked and the client has not answered, in one MCP session */
  readonly asks: number
  /** at the endpoint of all servers a list waits this long for the slowest of them, and says who is missing */
  readonly partMs: number
  /** and a merged list is served again for this long, while nothing is known to have changed */
  readonly mergedMs: number
  /** rounds of one call in which the server asks for more */
  readonly rounds: number
  /** a call waits so long for the list that it rests on, when that was not seen yet */
  readonly learnMs: number
  /** a filtered list may be cached by its client for at most this long: rights change */
  readonly listTtlMs: number
  /** the verdict that a server does not speak the modern era is believed for so long */
  readonly eraMs: number
  /** a comment on a silent event stream, so that what lies between does not close it */
  readonly keepAliveMs: number
  /** a call of a legacy client is held so long for a human's yes; reference clients give up after 60 s */
  readonly approvalMs: number
  /** and so long where the client is told of progress, every `progressMs`, which starts its time anew */
  readonly approvalProgressMs: number
  readonly progressMs: number
  /** a retry of a modern client is held so long, and answered so often with a further round: reference clients give up after 10 */
  readonly approvalPollMs: number
  readonly approvalRounds: number
}

export const MCP_LIMITS: McpLimits = {
  bodyBytes: 4 * 1024 * 1024,
  bodyMs: 30_000,
  depth: 64,
  batch: 32,
  lineBytes: 16 * 1024 * 1024,
  headerBytes: 16 * 1024,
  startMs: 60_000,
  silenceMs: 5 * 60_000,
  tellMs: 5_000,
  probeMs: 10_000,
  drainMs: 60_000,
  idleMs: 30 * 60_000,
  lanes: 1024,
  lanesPerSession: 64,
  lanesPerPerson: 256,
  childrenPerPerson: 96,
  requestsPerPerson: 512,
  requests: 8_192,
  inFlight: 256,
  streams: 4,
  queueBytes: 16 * 1024 * 1024,
  stderrBytes: 64 * 1024,
  termMs: 500,
  killMs: 5_000,
  backoffMs: 60_000,
  partMs: 3_000,
  mergedMs: 5_000,
  askMs: 10 * 60_000,
  asks: 32,
  rounds: 8,
  learnMs: 10_000,
  listTtlMs: 60_000,
  eraMs: 10 * 60_000,
  keepAliveMs: 15_000,
  approvalMs: 45_000,
  approvalProgressMs: 170_000,
  progressMs: 5_000,
  approvalPollMs: 20_000,
  approvalRounds: 8,
}
