// Starts the real gateway binary with a bootstrap file of our own, and waits until it serves what it should.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createServer } from 'node:net';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

const READY_TIMEOUT_MS = 30_000; // First start: migrations and a key.
const TOOLS_TIMEOUT_MS = 60_000; // The upstreams' own start, npm servers among them.
const STOP_TIMEOUT_MS = 30_000; // More than the gateway's own drain timeout.
const POLL_MS = 100;
const LOG_LINES_SHOWN = 40;
const VERSION = '2026-07-28';

/** A port that was free a moment ago. */
export async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

/**
 * Resolves when `tools` are listed through the gateway: { url, origin, key, log, stop }.
 * `upstreams` are bodies of the bootstrap file. With `tls`, { ca, cert, key }, it listens over TLS, and trusts the
 * authority for its upstreams. With `isKeyless` nobody has a key yet, and `tools` must be empty. `env` is added to its
 * environment.
 */
export async function startGateway({ binary, upstreams, tools, tls, isKeyless, env }) {
  const dir = mkdtempSync(join(tmpdir(), 'gateway-'));
  const key = `mpg_${randomBytes(32).toString('base64url')}`;
  const bootstrap = join(dir, 'bootstrap.yaml'); // JSON is YAML, too.
  const keys = isKeyless ? [] : [{ name: 'tests', key }];
  writeFileSync(bootstrap, JSON.stringify({ upstreams, keys }, null, 2));
  mkdirSync(join(dir, 'data'));
  const origin = `${tls ? 'https' : 'http'}://127.0.0.1:${await freePort()}`;
  const log = join(dir, 'gateway.log');
  const child = spawn(binary, ['serve', '--bootstrap', bootstrap], {
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      MPG_LISTEN: new URL(origin).host,
      MPG_DATA_DIR: join(dir, 'data'),
      MPG_LOG: process.env.MPG_LOG ?? 'info',
      ...(tls && { MPG_TLS_CERT: tls.cert, MPG_TLS_KEY: tls.key, SSL_CERT_FILE: tls.ca }),
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const file = createWriteStream(log);
  child.stdout.pipe(file);
  child.stderr.pipe(file);
  const ended = new Promise((resolve) => {
    child.once('error', resolve);
    child.once('exit', (code, signal) => resolve(new Error(`the gateway ended (${code ?? signal})`)));
  });

  const stop = async () => {
    child.kill('SIGTERM');
    const late = wait(STOP_TIMEOUT_MS, 'late', { ref: false });
    if ((await Promise.race([ended, late])) === 'late') child.kill('SIGKILL');
    await ended;
    rmSync(dir, { recursive: true, force: true });
    return child.exitCode;
  };
  const ca = tls && readFileSync(tls.ca);
  const gateway = { url: `${origin}/mcp/http`, origin, key, log, ca, stop };
  try {
    await until('ready', READY_TIMEOUT_MS, ended, async () => {
      return (await ask(`${origin}/readyz`, { ca })).status === 200;
    });
    await until('listing all tools', TOOLS_TIMEOUT_MS, ended, async () => {
      const listed = tools.length ? await listTools(gateway) : [];
      return tools.every((name) => listed.includes(name));
    });
  } catch (error) {
    const lines = readFileSync(log, 'utf8').trimEnd().split('\n');
    console.error(lines.slice(-LOG_LINES_SHOWN).join('\n'));
    await stop();
    throw error;
  }
  return gateway;
}

async function until(what, timeoutMs, ended, isDone) {
  const deadline = Date.now() + timeoutMs;
  let last = 'not yet';
  while (Date.now() < deadline) {
    const attempt = isDone().catch((error) => {
      last = error.code ?? error.message; // Nobody listens yet, or no such tool yet.
      return false;
    });
    const outcome = await Promise.race([attempt, ended]);
    if (outcome instanceof Error) throw outcome;
    if (outcome) return;
    await wait(POLL_MS);
  }
  throw new Error(`the gateway was not ${what} after ${timeoutMs} ms (${last})`);
}

/** The names of all tools that a key sees. */
export async function listTools({ url, key, ca }) {
  const names = [];
  let cursor;
  do {
    const _meta = {
      'io.modelcontextprotocol/protocolVersion': VERSION,
      'io.modelcontextprotocol/clientCapabilities': {},
    };
    const { status, text } = await ask(url, {
      ca,
      method: 'POST',
      headers: {
        Authorization: `Bearer ${key}`,
        'Content-Type': 'application/json',
        Accept: 'application/json, text/event-stream',
        'MCP-Protocol-Version': VERSION,
        'Mcp-Method': 'tools/list',
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list', params: { cursor, _meta } }),
    });
    const body = JSON.parse(text.startsWith('{') ? text : text.split('data: ').at(-1));
    if (!body.result) throw new Error(`tools/list answered ${status}: ${text.slice(0, 200)}`);
    names.push(...body.result.tools.map(({ name }) => name));
    cursor = body.result.nextCursor;
  } while (cursor);
  return names;
}

/** One request: { status, text }. Unlike fetch, it can be told whom to trust. */
async function ask(url, { body, ...options }) {
  const request = (url.startsWith('https:') ? https : http).request(url, options);
  request.end(body);
  const [response] = await once(request, 'response');
  response.setEncoding('utf8');
  let text = '';
  for await (const chunk of response) text += chunk;
  return { status: response.statusCode, text };
}
