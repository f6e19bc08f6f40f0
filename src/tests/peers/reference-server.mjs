#!/usr/bin/env node
// A whole MCP server in both eras, for the tests: serves the names that the official conformance suite calls.
// No dependencies; Node 20 or later. Written from the specification's revisions 2024-11-05 to 2026-07-28.
//
//   reference-server.mjs [--transport http|stdio|sse|ws] [--era both|legacy|modern] [--port N]
//                        [--answers auto|sse] [--page-size N] [--revision DATE] [--tools NAME,NAME]
//
// Over all but stdio it serves /mcp on loopback and prints one line, `listening 127.0.0.1:PORT`; `--port 0`
// takes a free port. `http` is Streamable HTTP, `sse` the HTTP+SSE of 2024-11-05. Over `http`, `--answers sse`
// answers each request with an event stream, where `auto` does so only for calls that have more to say than
// their result. `--revision` has it speak that revision and no other; with `--tools` it offers those alone, of
// resources only what they change, and no prompts. Several revisions or transports, with commas, are as many
// servers in one process, with a line for each: the revisions of the first transport, then of the next.
import { parseArgs } from 'node:util';
import { serveHttpSse } from './reference/http-sse.mjs';
import { serveHttp } from './reference/http.mjs';
import { LEGACY_VERSIONS, MODERN_VERSIONS, ReferenceServer } from './reference/server.mjs';
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
    revision: { type: 'string' },
    tools: { type: 'string' },
  },
});
const transports = options.transport.split(',');
const revisions = options.revision?.split(',') ?? [undefined];
const known = {
  transports: transports.every((one) => SERVERS[one]) || options.transport === 'stdio',
  revisions: revisions.every((one) => [undefined, ...LEGACY_VERSIONS, ...MODERN_VERSIONS].includes(one)),
};
if (!ERAS[options.era] || !known.transports || !known.revisions) {
  console.error('usage: reference-server.mjs [--transport http|stdio|sse|ws] [--era both|legacy|modern] [--port N]');
  process.exit(2);
}

function serverOf(revision) {
  const eraOfRevision = MODERN_VERSIONS.includes(revision) ? 'modern' : 'legacy';
  const eras = new Set(ERAS[revision ? eraOfRevision : options.era]);
  return new ReferenceServer({
    eras,
    pageSize: Number(options['page-size']),
    revision,
    tools: options.tools?.split(','),
  });
}

if (options.transport === 'stdio') {
  serveStdio(serverOf(revisions[0]));
} else {
  const all = transports.flatMap((transport) => revisions.map((revision) => [SERVERS[transport], revision]));
  const where = { port: Number(options.port), path: '/mcp', answers: options.answers };
  const served = await Promise.all(all.map(([serve, revision]) => serve(serverOf(revision), where)));
  for (const { port } of served) console.log(`listening 127.0.0.1:${port}`);
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => served.forEach(({ close }) => close()));
}
