#!/usr/bin/env node
// A server that misbehaves on demand, over every transport, for tests of what a client must endure. No dependencies.
//
//   hostile-server.mjs [--transport stdio|sockets] [--list good|endless|repeated|huge|garbage|half]
//
// With `sockets` it serves, on one free port of loopback, Streamable HTTP at /http (answers are event streams) and
// at /json (they are bodies), HTTP+SSE at /sse and WebSocket at /ws, and prints `listening 127.0.0.1:PORT`; what it
// lists is said by the address: `?list=endless`. Each of its tools is a way to answer wrongly: see hostile/faults.mjs.
// It speaks the legacy era only.
import { parseArgs } from 'node:util';
import { serveSockets } from './hostile/sockets.mjs';
import { serveStdio } from './hostile/stdio.mjs';

const { values: options } = parseArgs({
  options: { transport: { type: 'string', default: 'sockets' }, list: { type: 'string', default: 'good' } },
});
if (options.transport === 'stdio') serveStdio(options.list);
else console.log(`listening 127.0.0.1:${await serveSockets()}`);
