#!/usr/bin/env node
// A whole MCP server in both eras, for the tests: serves the names that the official conformance suite calls.
// No dependencies; Node 20 or later. Written from the specification's revisions 2024-11-05 to 2026-07-28.
//
//   reference-server.mjs [--transport http|stdio|sse|ws] [--era both|legacy|modern] [--port N]
//                        [--answers auto|sse] [--page-size N]
//
// Over all but stdio it serves /mcp on loopback and prints one line, `listening 127.0.0.1:PORT`; `--port 0`
// takes a free port. `http` is Streamable HTTP, `sse` the HTTP+SSE of 2024-11-05. Over `http`, `--answers sse`
// answers each request with an event stream, where `auto` does so only for calls that have more to say than
// their result.
import { parseArgs } from 'node:util';
import { serveHttpSse } from './reference/http-sse.mjs';
import { serveHttp } from './reference/http.mjs';
import { ReferenceServer } from './reference/server.mjs';
import { serveStdio } from './reference/stdio.mjs';
import { serveWebSocket } from './reference/websocket.mjs';

const SERVERS = { http: serveHttp, sse: serveHttpSse, ws: serveWebSocket };
const ERAS = { both: ['legacy', 'modern'], legacy: ['legacy'], modern: ['modern'] };
const { values: options } = parseArgs({
  options: {
    transport: { type: 'string', default: 'http' },
    era: { type: 'string', default: 'both' },
    port: { type: 'string', default: '0' },
    answers: { type: 'string', default: 'auto' },
    'page-size': { type: 'string', default: '1000' },
  },
});
if (!ERAS[options.era] || !['stdio', ...Object.keys(SERVERS)].includes(options.transport)) {
  console.error('usage: reference-server.mjs [--transport http|stdio|sse|ws] [--era both|legacy|modern] [--port N]');
  process.exit(2);
}

const server = new ReferenceServer({ eras: new Set(ERAS[options.era]), pageSize: Number(options['page-size']) });
if (options.transport === 'stdio') {
  serveStdio(server);
} else {
  const serve = SERVERS[options.transport];
  const served = await serve(server, { port: Number(options.port), path: '/mcp', answers: options.answers });
  console.log(`listening 127.0.0.1:${served.port}`);
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => served.close());
}
