// The real servers that the clients reach through the gateway, and what a call of each has to answer.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as wait } from 'node:timers/promises';
import { freePort } from '../harness/gateway.mjs';

const LISTENING_TIMEOUT_MS = 30_000; // A Python server on a busy machine imports for a while.
const POLL_MS = 50;
const STDERR_CHARS_SHOWN = 4_000;
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const npm = (name) => here(`../node_modules/@modelcontextprotocol/${name}/dist/index.js`);

const stdio = (name, command, args, env = {}) => ({
  name,
  transport: 'stdio',
  connParams: { command, args, env },
});

/**
 * Starts those that have a socket, and prepares the others in `dir`:
 * { upstreams, calls, stop }, `calls` being { tool: { args, expect } }.
 */
export async function startServers({ python, python1, dir }) {
  const everything = npm('server-everything');
  const files = join(dir, 'files');
  mkdirSync(files);
  writeFileSync(join(files, 'note.txt'), 'kept in a file');
  const memory = join(dir, 'memory.jsonl');
  const known = { type: 'entity', name: 'Ada', entityType: 'person', observations: ['wrote the first program'] };
  writeFileSync(memory, `${JSON.stringify(known)}\n`);
  const repository = join(dir, 'repository');
  makeRepository(repository, 'what was committed');
  const beside = (name) => join(dirname(python), name);

  const [httpPort, ssePort] = [await freePort(), await freePort()];
  const processes = [];
  try {
    processes.push(await listening(httpPort, process.execPath, [everything, 'streamableHttp'], { PORT: httpPort }));
    processes.push(await listening(ssePort, process.execPath, [everything, 'sse'], { PORT: ssePort }));
    const websocket = await startWebSocketServer({ python1 });
    processes.push(websocket);
    const prefixed = (name, transport, url) => ({ name, namePrefix: `${name}_`, transport, connParams: { url } });
    return {
      upstreams: [
        stdio('everything', process.execPath, [everything, 'stdio']),
        prefixed('http', 'streamable-http', `http://127.0.0.1:${httpPort}/mcp`),
        prefixed('sse', 'sse', `http://127.0.0.1:${ssePort}/sse`),
        websocket.upstream,
        stdio('filesystem', process.execPath, [npm('server-filesystem'), files]),
        stdio('memory', process.execPath, [npm('server-memory')], { MEMORY_FILE_PATH: memory }),
        stdio('git', beside('mcp-server-git'), []),
        stdio('time', beside('mcp-server-time'), []),
      ],
      calls: {
        echo: { args: { message: 'through the gateway' }, expect: 'through the gateway' },
        'http_get-sum': { args: { a: 20, b: 22 }, expect: '42' },
        'sse_get-sum': { args: { a: 30, b: 33 }, expect: '63' },
        ...websocket.calls,
        read_text_file: { args: { path: join(files, 'note.txt') }, expect: 'kept in a file' },
        search_nodes: { args: { query: 'Ada' }, expect: 'wrote the first program' },
        git_log: { args: { repo_path: repository, max_count: 1 }, expect: 'what was committed' },
        get_current_time: { args: { timezone: 'Etc/UTC' }, expect: 'Etc/UTC' },
      },
      stop: () => processes.forEach(({ stop }) => stop()),
    };
  } catch (error) {
    processes.forEach(({ stop }) => stop());
    throw error;
  }
}

/** The one over WebSocket, with a certificate over TLS: { upstream, calls, stop }. */
export async function startWebSocketServer({ python1, tls }) {
  const port = await freePort();
  const pair = tls ? [tls.cert, tls.key] : [];
  const { stop } = await listening(port, python1, [here('../peers/websocket_server.py'), String(port), ...pair]);
  const url = `${tls ? 'wss' : 'ws'}://localhost:${port}/mcp`;
  return {
    upstream: { name: 'websocket', transport: 'websocket', connParams: { url } },
    calls: { reverse: { args: { text: 'gateway' }, expect: 'yawetag' } },
    stop,
  };
}

function makeRepository(path, message) {
  const git = (...args) => execFileSync('git', args, { cwd: path });
  mkdirSync(path);
  git('init', '--quiet');
  git(
    '-c',
    'user.name=tests',
    '-c',
    'user.email=tests@example.com',
    'commit',
    '--quiet',
    '--allow-empty',
    '-m',
    message,
  );
}

/** Starts a process, and waits until it listens. */
async function listening(port, program, args, env = {}) {
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text) => {
    said = (said + text).slice(-STDERR_CHARS_SHOWN);
  });
  const stop = () => child.kill('SIGKILL');
  const deadline = Date.now() + LISTENING_TIMEOUT_MS;
  while (!(await connects(port))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      stop();
      throw new Error(`${args[0]} doesn't listen:\n${said}`);
    }
    await wait(POLL_MS);
  }
  return { stop };
}

async function connects(port) {
  const socket = connect(port, 'localhost');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false; // Not yet.
  } finally {
    socket.destroy();
  }
}
