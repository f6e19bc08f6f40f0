#!/usr/bin/env node
// Sends the REST API what its OpenAPI document allows, and what it doesn't, and compares each answer with the document.
//
//   run.mjs --binary PATH --schemathesis PATH [--seed N] [--examples N]
//
// Exit 0: no answer was a 5xx, and each had a status, a type and a body that the document describes. What failed is
// printed with the request that does it again. The seed is fixed, so that two runs of one tree send the same.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { startGateway } from '../harness/gateway.mjs';
import { startReference } from '../harness/reference.mjs';

const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
  'unsupported_method',
  'ignored_auth',
];
// These end the session that the run goes on with, slow down every login after many in vain, or never end.
const LEFT_OUT = [
  '/api/admin/auth/change-password',
  '/api/admin/auth/logout',
  '/api/admin/auth/refresh',
  '/api/admin/auth/sessions',
  '/api/admin/auth/sessions/{id}',
  '/api/admin/events',
  '/api/auth/login',
  '/api/auth/register',
];
const REQUEST_TIMEOUT_S = 20; // More than the gateway gives any request but for a long call.
const RUN_TIMEOUT_MS = 240_000; // The run takes about 40 s.
const TOOLS = ['test_simple_text'];
const ADMIN = { username: 'fuzzer', password: 'a password of its own' };

const { values: options } = parseArgs({
  options: {
    binary: { type: 'string', default: process.env.MPG_BINARY },
    schemathesis: { type: 'string' },
    seed: { type: 'string', default: '1' },
    examples: { type: 'string', default: '15' },
  },
});
if (!options.binary || !options.schemathesis) {
  console.error('usage: run.mjs --binary PATH --schemathesis PATH [--seed N] [--examples N]');
  process.exit(2);
}

const reference = await startReference({ transport: 'http', era: 'both' });
// Upstreams are made with any command: none may run.
const env = { MPG_STDIO_ENABLED: 'false' };
const upstreams = [reference.upstream];
const gateway = await startGateway({ binary: options.binary, upstreams, tools: TOOLS, env });
try {
  process.exitCode = await compare(gateway.origin, await register(gateway.origin));
} finally {
  await gateway.stop();
  await reference.stop();
}

async function register(origin) {
  const response = await fetch(`${origin}/api/auth/register`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(ADMIN),
  });
  if (response.status !== 201) throw new Error(`register answered ${response.status}: ${await response.text()}`);
  return (await response.json()).token;
}

/** The exit code of the comparison. */
async function compare(origin, token) {
  const cwd = mkdtempSync(join(tmpdir(), 'openapi-')); // It leaves a cache where it runs.
  const child = spawn(
    resolve(options.schemathesis),
    [
      ...['run', `${origin}/api/openapi.json`, '--url', origin, '--header', `Authorization: Bearer ${token}`],
      ...['--checks', CHECKS.join(',')],
      ...LEFT_OUT.flatMap((path) => ['--exclude-path', path]),
      ...['--seed', options.seed, '--max-examples', options.examples, '--workers', '2'],
      ...['--request-timeout', String(REQUEST_TIMEOUT_S), '--generation-database', 'none'],
      ...['--no-color', '--warnings', 'off', '--continue-on-failure'],
    ],
    { cwd, stdio: ['ignore', 'inherit', 'inherit'], timeout: RUN_TIMEOUT_MS },
  );
  const [code, signal] = await once(child, 'exit');
  rmSync(cwd, { recursive: true, force: true });
  if (signal) console.error(`it did not end within ${RUN_TIMEOUT_MS} ms`);
  return code ?? 1;
}
