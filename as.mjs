import { createServer } from 'node:http'
// an MCP server on loopback whose login lies at 10.1.2.3
createServer((q, r) => { if (q.url.includes('well-known')) { r.setHeader('content-type','application/json'); return r.end(JSON.stringify({ resource: 'http://127.0.0.1:17999/mcp', authorization_servers: ['http://10.1.2.3'] })) }
 r.statusCode = 401; r.setHeader('www-authenticate', 'Bearer resource_metadata="http://127.0.0.1:17999/.well-known/oauth-protected-resource/mcp"'); r.end() }).listen(17999, '127.0.0.1')
