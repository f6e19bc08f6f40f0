// One stream of server-sent events, which may outlive the connection that carries it.
const EVENTS_KEPT_MAX = 1000; // Enough for any test; a client that is further behind has lost events.
const RETRY_MS = 100;
const HEADERS = {
  'Content-Type': 'text/event-stream',
  'Cache-Control': 'no-store',
  'X-Accel-Buffering': 'no',
};

/**
 * With a registry (legacy era) events have ids and are kept for a reconnection; without one (modern era)
 * the stream is as long as its connection. A primed stream opens with an empty event, so that a client has
 * an id to come back with before the first message.
 */
export class EventStream {
  #registry;
  #primed;
  #events = [];
  #next = 0;
  #res = null;
  #ended = false;
  isOpen = false;

  constructor(registry, { primed }) {
    this.#registry = registry;
    this.#primed = primed;
    this.id = registry ? String(registry.size + 1) : undefined;
    registry?.set(this.id, this);
  }

  /** Starts writing to `res`, once: a call's stream isn't opened again when its client has gone. */
  open(res) {
    if (this.isOpen) return this;
    this.isOpen = true;
    this.connect(res);
    if (this.#primed) this.#put('');
    return this;
  }

  /** Sends what came after the event `after`, then goes on with `res`. */
  resume(res, after) {
    this.connect(res);
    this.#events.filter(({ number }) => number > after).forEach((event) => this.#send(event));
    if (this.#ended) res.end();
  }

  /** Writes to `res` from now on. */
  connect(res) {
    this.#res = res;
    res.writeHead(200, HEADERS);
    res.flushHeaders();
    res.on('close', () => {
      if (this.#res === res) this.#res = null;
    });
  }

  write(message) {
    this.#put(JSON.stringify(message));
    return this;
  }

  #put(data) {
    const event = { number: this.#next++, data };
    if (this.#registry) this.#events.push(event);
    if (this.#events.length > EVENTS_KEPT_MAX) this.#events.shift();
    this.#send(event);
  }

  #send({ number, data }) {
    this.#res?.write(`${this.id === undefined ? '' : `id: ${this.id}:${number}\n`}data: ${data}\n\n`);
  }

  comment() {
    this.#res?.write(': alive\n\n');
  }

  /** Closes the connection but not the stream: the client is to come back. */
  detach() {
    this.#res?.write(`retry: ${RETRY_MS}\n\n`);
    this.#res?.end();
    this.#res = null;
  }

  end() {
    this.#ended = true;
    this.#res?.end();
  }
}
