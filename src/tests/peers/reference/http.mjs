// Streamable HTTP for the reference server: one endpoint, both eras, sessions and resumable streams for legacy.
import http from 'node:http';
import { HEADER_MISMATCH, INVALID_REQUEST, PARSE_ERROR, RpcError, UNSUPPORTED_VERSION } from './errors.mjs';
import { LEGACY_VERSIONS, LegacySession, META, MODERN_VERSIONS, handleModern } from './server.mjs';
import { EventStream } from './sse.mjs';
import { TASK_METHODS } from './tasks.mjs';
import { findTool, headerParameters } from './tools.mjs';

const NO_SESSION = -32001;
const BODY_BYTES_MAX = 4 * 1024 * 1024;
const KEEP_ALIVE_MS = 15_000;
const NAMED_BY = {
  'tools/call': 'name',
  'prompts/get': 'name',
  'resources/read': 'uri',
  ...Object.fromEntries(TASK_METHODS.map((method) => [method, 'taskId'])),
};
const LOOPBACK = new Set(['127.0.0.1', 'localhost', '[::1]']);

const isLoopback = (authority) => LOOPBACK.has(authority.replace(/:\d+$/, ''));
const isRequest = (message) => message.method !== undefined && message.id !== undefined;

/** Listens, and resolves with the port and a function that ends everything. */
export function serveHttp(server, { port, path, answers }) {
  const sessions = new Map();
  const context = { server, sessions, answers };
  const listener = http.createServer((req, res) => {
    route(context, path, req, res).catch((error) => {
      const known = error instanceof RpcError ? error : new RpcError(PARSE_ERROR, error.message, { status: 500 });
      sendJson(res, known.status ?? 400, { jsonrpc: '2.0', error: known.toJson() });
    });
  });
  return new Promise((resolve, reject) => {
    listener.on('error', reject);
    listener.listen(port, '127.0.0.1', () => {
      const close = () => {
        server.close();
        listener.close();
        setImmediate(() => listener.closeAllConnections());
      };
      resolve({ port: listener.address().port, close });
    });
  });
}

async function route(context, path, req, res) {
  const origin = req.headers.origin;
  if (!isLoopback(req.headers.host ?? '') || (origin && !isLoopback(origin.replace(/^https?:\/\//, '')))) {
    return sendJson(res, 403, { jsonrpc: '2.0', error: { code: INVALID_REQUEST, message: 'Foreign Host or Origin' } });
  }
  const { pathname, searchParams } = new URL(req.url, 'http://localhost');
  if (req.method === 'POST' && pathname === `${path}/log`) {
    // A test's own way to have something happen outside of all calls.
    context.server.logOutside(searchParams.get('level'));
    return res.writeHead(204).end();
  }
  if (pathname !== path) return res.writeHead(404).end();
  const isModern = MODERN_VERSIONS.includes(req.headers['mcp-protocol-version']);
  const hasSessions = context.server.eras.has('legacy') && !isModern;
  if (req.method === 'POST') return post(context, req, res);
  if (req.method === 'GET' && hasSessions) return get(context, req, res);
  if (req.method === 'DELETE' && hasSessions) return remove(context, req, res);
  return res.writeHead(405, { Allow: hasSessions ? 'GET, POST, DELETE' : 'POST' }).end();
}

async function post(context, req, res) {
  const accept = req.headers.accept ?? '';
  const takes = (type) => accept.includes(type) || accept.includes('*/*');
  if (!takes('application/json') || !takes('text/event-stream')) return res.writeHead(406).end();
  if (!(req.headers['content-type'] ?? '').startsWith('application/json')) return res.writeHead(415).end();
  const message = await readMessage(req);
  const isModern = eraOf(context.server, req.headers, message) === 'modern';
  return isModern ? postModern(context, req, res, message) : postLegacy(context, req, res, message);
}

async function readMessage(req) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of req) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) throw new RpcError(INVALID_REQUEST, 'Body too large', { status: 413 });
    chunks.push(chunk);
  }
  let message;
  try {
    message = JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    throw new RpcError(PARSE_ERROR, 'Parse error');
  }
  const whole = [message].flat().every((one) => one?.jsonrpc === '2.0' && (one.method || one.id !== undefined));
  if (!whole || [message].flat().length === 0) throw new RpcError(INVALID_REQUEST, 'Invalid request');
  return message;
}

/** The era of a request, by what it carries; where one era is off, the other answers. */
function eraOf({ eras }, headers, message) {
  if (eras.size === 1) return [...eras][0];
  if (Array.isArray(message)) return 'legacy';
  if (message.params?._meta?.[`${META}protocolVersion`] !== undefined) return 'modern';
  if (message.method === 'initialize') return 'legacy';
  const version = headers['mcp-protocol-version'];
  if (LEGACY_VERSIONS.includes(version) || headers['mcp-session-id']) return 'legacy';
  if (version !== undefined || headers['mcp-method'] !== undefined) return 'modern';
  return 'legacy';
}

// ---- legacy ----

function findSession({ server, sessions }, req) {
  const version = req.headers['mcp-protocol-version'];
  if (version !== undefined && !server.versions.includes(version)) {
    throw new RpcError(-32000, `Unsupported protocol version (supported: ${server.versions.join(', ')})`);
  }
  // Since 2025-06-18 a client must say it; older servers know no such header.
  if (version === undefined && server.revision >= '2025-06-18') {
    throw new RpcError(-32000, 'MCP-Protocol-Version is missing');
  }
  const id = req.headers['mcp-session-id'];
  if (id === undefined) throw new RpcError(-32000, 'Mcp-Session-Id is missing', { status: 400 });
  const session = sessions.get(id);
  if (!session) throw new RpcError(NO_SESSION, 'Session not found', { status: 404 });
  return session;
}

async function postLegacy(context, req, res, message) {
  const opensSession = !Array.isArray(message) && message.method === 'initialize';
  const session = opensSession ? openSession(context) : findSession(context, req);
  if (Array.isArray(message) && session.version !== '2025-03-26') {
    throw new RpcError(INVALID_REQUEST, 'Batches are not part of this revision');
  }
  const messages = [message].flat();
  const requests = messages.filter(isRequest);
  messages.filter((one) => !isRequest(one)).forEach((one) => session.receive(one));
  if (!requests.length) return res.writeHead(202).end();

  const stream = new EventStream(session.streams, { primed: session.version === '2025-11-25' });
  const channel = {
    open: () => stream.open(res),
    send: (one) => stream.open(res).write(one),
    close: () => stream.open(res).detach(),
  };
  if (context.answers === 'sse' && !opensSession) channel.open();
  const responses = (await Promise.all(requests.map((one) => session.handle(one, channel)))).filter(Boolean);
  if (stream.isOpen) {
    responses.forEach((one) => stream.write(one));
    return stream.end();
  }
  if (!responses.length) return res.writeHead(202).end(); // All were cancelled: nothing may be said.
  if (opensSession) res.setHeader('Mcp-Session-Id', session.id);
  return sendJson(res, 200, Array.isArray(message) ? responses : responses[0]);
}

function openSession({ server, sessions }) {
  const streams = new Map();
  const unrelated = new EventStream(streams, { primed: false });
  const session = new LegacySession(server, (one) => unrelated.write(one));
  session.streams = streams;
  session.unrelated = unrelated;
  sessions.set(session.id, session);
  return session;
}

function get(context, req, res) {
  if (!(req.headers.accept ?? '').match(/text\/event-stream|\*\/\*/)) return res.writeHead(406).end();
  const session = findSession(context, req);
  const lastEventId = req.headers['last-event-id'];
  if (lastEventId === undefined) return session.unrelated.connect(res);
  const [streamId, after] = lastEventId.split(':');
  const stream = session.streams.get(streamId);
  if (!stream) throw new RpcError(INVALID_REQUEST, 'Unknown event id');
  return stream.resume(res, Number(after));
}

function remove(context, req, res) {
  const session = findSession(context, req);
  session.end();
  session.unrelated.end();
  context.sessions.delete(session.id);
  return res.writeHead(204).end();
}

// ---- modern ----

async function postModern(context, req, res, message) {
  if (Array.isArray(message)) throw new RpcError(INVALID_REQUEST, 'Batches are not part of this revision');
  if (!isRequest(message)) return res.writeHead(202).end();
  try {
    checkHeaders(context.server, req.headers, message);
  } catch (error) {
    return sendJson(res, error.status, { jsonrpc: '2.0', id: message.id, error: error.toJson() });
  }
  const gone = new AbortController();
  res.on('close', () => gone.abort()); // Closing the stream is the cancellation.
  const stream = new EventStream(null, { primed: false });
  const channel = { open: () => stream.open(res), send: (one) => stream.open(res).write(one), close: () => {} };
  const alive = setInterval(() => stream.comment(), KEEP_ALIVE_MS);
  const { response, status } = await handleModern(context.server, message, channel, gone.signal);
  clearInterval(alive);
  if (context.answers === 'sse' && status === 200) channel.open(); // Other statuses need the plain answer.
  if (stream.isOpen) {
    stream.write(response);
    return stream.end();
  }
  return sendJson(res, status, response);
}

/** Headers must say what the body says; a missing one is as wrong as a different one. */
function checkHeaders(server, headers, { method, params = {} }) {
  const mismatch = (header) => new RpcError(HEADER_MISMATCH, `${header} differs from the body`, { status: 400 });
  if (method === 'initialize' && !params._meta) {
    // The only words a legacy client gets from a modern server: name the versions.
    const data = { supported: server.versions, requested: params.protocolVersion };
    throw new RpcError(UNSUPPORTED_VERSION, 'Unsupported protocol version', { data, status: 400 });
  }
  const version = params._meta?.[`${META}protocolVersion`];
  const versionHeader = headers['mcp-protocol-version'];
  if (versionHeader === undefined || (version !== undefined && versionHeader !== version)) {
    throw mismatch('MCP-Protocol-Version');
  }
  if (headers['mcp-method'] !== method) throw mismatch('Mcp-Method');
  const name = params[NAMED_BY[method]];
  if (name !== undefined && decode(headers['mcp-name']) !== name) throw mismatch('Mcp-Name');
  const tool = method === 'tools/call' ? findTool(params.name) : undefined;
  for (const [header, path, type] of tool ? headerParameters(tool.inputSchema) : []) {
    const value = path.reduce((inner, key) => inner?.[key], params.arguments);
    const given = decode(headers[`mcp-param-${header.toLowerCase()}`]);
    const equal = type === 'integer' && given !== undefined ? Number(given) === value : given === toText(value);
    if (!equal) throw mismatch(`Mcp-Param-${header}`);
  }
}

const toText = (value) => (value === undefined ? undefined : String(value));

/** The value of a header that may be wrapped in =?base64?...?=; null where the wrapping is broken. */
function decode(value) {
  const wrapped = /^=\?base64\?(.*)\?=$/.exec(value ?? '');
  if (!wrapped) return value;
  const bytes = Buffer.from(wrapped[1], 'base64');
  return bytes.toString('base64') === wrapped[1] ? bytes.toString('utf8') : null;
}

function sendJson(res, status, body) {
  if (res.headersSent || res.destroyed) return;
  res.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}
