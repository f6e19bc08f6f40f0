#!/usr/bin/env node
// The command line of the official Inspector, in either era, over Streamable HTTP or HTTP+SSE; it runs one method
// per process.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { report } from './common.mjs';

const INSPECTOR = fileURLToPath(new URL('../node_modules/.bin/mcp-inspector', import.meta.url));
const TIMEOUT_MS = 60_000;
const run = promisify(execFile);

await report('inspector', async ({ url, headers, transport, era, calls }) => {
  const home = mkdtempSync(join(tmpdir(), 'inspector-')); // It keeps files in its home; ours stays clean.
  try {
    const invoke = async (method, ...rest) => {
      const auth = Object.entries(headers).flatMap(([name, value]) => ['--header', `${name}: ${value}`]);
      const common = ['--transport', transport, '--protocol-era', era, '--stored-auth-only', '--format', 'json'];
      const args = ['--cli', '--server-url', url, ...common, ...auth, '--method', method, ...rest];
      const { stdout } = await run(process.execPath, [INSPECTOR, ...args], {
        env: { ...process.env, HOME: home },
        timeout: TIMEOUT_MS,
      });
      const parsed = JSON.parse(stdout);
      return parsed.result ?? parsed;
    };
    const { tools } = await invoke('tools/list');
    const results = {};
    for (const [name, args] of Object.entries(calls)) {
      const pairs = Object.entries(args).flatMap(([key, value]) => ['--tool-arg', `${key}=${value}`]);
      results[name] = await invoke('tools/call', '--tool-name', name, ...pairs);
    }
    return { protocolVersion: era === 'modern' ? '2026-07-28' : null, tools: tools.map(({ name }) => name), results };
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});
