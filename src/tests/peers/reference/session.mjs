// One client on one stream of messages each way, whatever carries them: stdio, WebSocket, HTTP+SSE.
import { INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR } from './errors.mjs';
import { LegacySession, META, handleModern } from './server.mjs';

/** Takes messages as text. `send` writes one to the client. */
export class Conversation {
  #server;
  #send;
  #channel;
  #session;
  #running = new Map(); // Modern requests by id: closing one is a notification here.

  constructor(server, send) {
    this.#server = server;
    this.#send = send;
    this.#channel = { open: () => {}, send, close: () => {} };
    this.#session = server.eras.has('legacy') ? new LegacySession(server, send) : null;
  }

  receive(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return this.#send({ jsonrpc: '2.0', error: { code: PARSE_ERROR, message: 'Parse error' } });
    }
    if (message?.jsonrpc !== '2.0') {
      return this.#send({ jsonrpc: '2.0', error: { code: INVALID_REQUEST, message: 'Invalid request' } });
    }
    if (message.method === undefined || message.id === undefined) {
      if (message.method === 'notifications/cancelled') this.#running.get(message.params?.requestId)?.abort();
      return this.#session?.receive(message);
    }
    const isModern = message.params?._meta?.[`${META}protocolVersion`] !== undefined;
    const answersModern = !this.#session || (isModern && this.#server.eras.has('modern'));
    return answersModern ? this.#modern(message) : this.#legacy(message);
  }

  end() {
    this.#session?.end();
    for (const running of this.#running.values()) running.abort();
  }

  async #modern(message) {
    const cancelled = new AbortController();
    this.#running.set(message.id, cancelled);
    const { response } = await handleModern(this.#server, message, this.#channel, cancelled.signal);
    this.#running.delete(message.id);
    if (!cancelled.signal.aborted) this.#send(response);
  }

  async #legacy(message) {
    if (message.method !== 'initialize' && message.method !== 'ping' && !this.#session.version) {
      const error = { code: METHOD_NOT_FOUND, message: 'Not initialized' };
      return this.#send({ jsonrpc: '2.0', id: message.id, error });
    }
    const response = await this.#session.handle(message, this.#channel);
    if (response) this.#send(response);
  }
}
