// Starts the reference server over HTTP, or says how the gateway is to start it over stdio.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('../peers/reference-server.mjs', import.meta.url));

/** Resolves with the body of an upstream, the server's own address (HTTP only), and a function that ends it. */
export async function startReference({ transport, era }) {
  const options = { name: 'reference', protocol: 'auto' };
  if (transport === 'stdio') {
    const args = [SCRIPT, '--transport', 'stdio', '--era', era];
    const connParams = { command: process.execPath, args };
    return { upstream: { ...options, transport: 'stdio', connParams }, stop: async () => {} };
  }
  const child = spawn(process.execPath, [SCRIPT, '--era', era, '--port', '0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  const url = `http://${line.replace('listening ', '')}/mcp`;
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    await once(child, 'exit');
  };
  return { upstream: { ...options, transport: 'streamable-http', connParams: { url } }, url, stop };
}
