// stdio for the reference server: one message a line; the process is the session.
import { createInterface } from 'node:readline';
import { INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR } from './errors.mjs';
import { LegacySession, META, handleModern } from './server.mjs';

export function serveStdio(server) {
  const send = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
  const channel = { open: () => {}, send, close: () => {} };
  const running = new Map(); // Modern requests by id: closing one is a notification here.
  const session = server.eras.has('legacy') ? new LegacySession(server, send) : null;

  const modern = async (message) => {
    const cancelled = new AbortController();
    running.set(message.id, cancelled);
    const { response } = await handleModern(server, message, channel, cancelled.signal);
    running.delete(message.id);
    if (!cancelled.signal.aborted) send(response);
  };
  const legacy = async (message) => {
    if (message.method !== 'initialize' && message.method !== 'ping' && !session.version) {
      const error = { code: METHOD_NOT_FOUND, message: 'Not initialized' };
      return send({ jsonrpc: '2.0', id: message.id, error });
    }
    const response = await session.handle(message, channel);
    if (response) send(response);
  };

  const receive = (line) => {
    let message;
    try {
      message = JSON.parse(line);
    } catch {
      return send({ jsonrpc: '2.0', error: { code: PARSE_ERROR, message: 'Parse error' } });
    }
    if (message?.jsonrpc !== '2.0') {
      return send({ jsonrpc: '2.0', error: { code: INVALID_REQUEST, message: 'Invalid request' } });
    }
    if (message.method === undefined || message.id === undefined) {
      if (message.method === 'notifications/cancelled') running.get(message.params?.requestId)?.abort();
      return session?.receive(message);
    }
    const isModern = message.params?._meta?.[`${META}protocolVersion`] !== undefined;
    return !session || (isModern && server.eras.has('modern')) ? modern(message) : legacy(message);
  };

  const lines = createInterface({ input: process.stdin, crlfDelay: Infinity });
  lines.on('line', (line) => line && receive(line));
  lines.on('close', () => process.exit(0)); // The client closed our stdin: that is the shutdown.
}
