// stdio for the reference server: one message a line; the process is the session.
import { createInterface } from 'node:readline';
import { Conversation } from './session.mjs';

export function serveStdio(server) {
  const client = new Conversation(server, (message) => process.stdout.write(`${JSON.stringify(message)}\n`));
  const lines = createInterface({ input: process.stdin, crlfDelay: Infinity });
  lines.on('line', (line) => line && client.receive(line));
  lines.on('close', () => process.exit(0)); // The client closed our stdin: that is the shutdown.
}
