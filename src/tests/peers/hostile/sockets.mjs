// The hostile server over Streamable HTTP, HTTP+SSE and WebSocket, on one port.
import http from 'node:http';
import { createHash, randomUUID } from 'node:crypto';
import { receive } from './faults.mjs';
import { write, writeEach, writeEndless } from './writing.mjs';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const [CONTINUE, TEXT, CLOSE, PING, PONG, FINAL] = [0x0, 0x1, 0x8, 0x9, 0xa, 0x80];
const streams = new Map();

/** Listens, and resolves with the port. */
export function serveSockets() {
  const listener = http.createServer(async (req, res) => {
    const url = new URL(req.url, 'http://localhost');
    const list = url.searchParams.get('list') ?? 'good';
    if (req.method === 'GET' && url.pathname === '/sse') return open(res, list);
    if (req.method !== 'POST') return res.writeHead(405).end();
    const chunks = [];
    for await (const chunk of req) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString('utf8');
    if (url.pathname === '/messages') {
      const stream = streams.get(url.searchParams.get('session'));
      res.writeHead(stream ? 202 : 404).end();
      return stream && receive(body, stream.line, stream.list);
    }
    if (JSON.parse(body).id === undefined) res.writeHead(202).end(); // Nothing is answered to it.
    return receive(body, url.pathname === '/json' ? json(res) : events(res), list);
  });
  listener.on('upgrade', upgrade);
  return new Promise((resolve) => {
    listener.listen(0, '127.0.0.1', () => resolve(listener.address().port));
  });
}

/** HTTP+SSE: one stream for all answers. */
function open(res, list) {
  const id = randomUUID();
  streams.set(id, { line: events(res, () => {}), list });
  res.on('close', () => streams.delete(id));
  res.writeHead(200, { 'content-type': 'text/event-stream' });
  res.write(`event: endpoint\ndata: /messages?session=${id}\n\n`);
}

const isOpen = (stream) => () => !stream.destroyed && !stream.writableEnded;

/** A stream of events; over Streamable HTTP it is one answer, after which it ends. */
function events(res, end = () => res.end()) {
  const begin = () => {
    if (!res.headersSent) res.writeHead(200, { 'content-type': 'text/event-stream' });
  };
  const line = (text) => `event: message\ndata: ${text}\n\n`;
  return {
    send: (text) => (begin(), write(res, line(text))),
    // JSON may be broken into lines between its tokens, each of which is a line of data.
    pieces: (text) => (begin(), writeEach(res, [...line(text.replace(/,"/g, ',\ndata: "'))]).then(end)),
    half: (text) => (begin(), write(res, line(text).slice(0, text.length / 2)).then(() => res.destroy())),
    endless: (text, filler, bytes) => (begin(), writeEndless(res, `data: ${text}`, filler, bytes)),
    end: () => (begin(), end()),
    isOpen: isOpen(res),
  };
}

/** One body, to which nothing can be added. */
function json(res) {
  const head = (length) => res.writeHead(200, { 'content-type': 'application/json', 'content-length': length });
  return {
    send: (text) => res.headersSent || head(Buffer.byteLength(text)).end(text),
    pieces: (text) => (head(Buffer.byteLength(text)), writeEach(res, [...text])),
    half: (text) => write(head(Buffer.byteLength(text)), text.slice(0, text.length / 2)).then(() => res.destroy()),
    endless: (begin, filler, bytes) => (
      res.writeHead(200, { 'content-type': 'application/json' }),
      writeEndless(res, begin, filler, bytes)
    ),
    end: () => res.headersSent || res.writeHead(200, { 'content-type': 'application/json' }).end(),
    isOpen: isOpen(res),
  };
}

function upgrade(req, socket) {
  const accept = createHash('sha1')
    .update(req.headers['sec-websocket-key'] + GUID)
    .digest('base64');
  socket.write(
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: mcp\r\n\r\n`,
  );
  const list = new URL(req.url, 'http://localhost').searchParams.get('list') ?? 'good';
  const line = {
    send: (text) => write(socket, frame(FINAL | TEXT, text)),
    pieces: (text) => writeEach(socket, fragments([...text])),
    half: (text) => write(socket, frame(FINAL | TEXT, text).subarray(0, text.length / 2)).then(() => socket.destroy()),
    endless: (begin, filler, bytes) => writeEndless(socket, frame(TEXT, begin), frame(CONTINUE, filler), bytes),
    end: () => {},
    isOpen: isOpen(socket),
  };
  let buffer = Buffer.alloc(0);
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    buffer = Buffer.concat([buffer, chunk]);
    for (let taken = unframe(buffer); taken; taken = unframe(buffer)) {
      buffer = buffer.subarray(taken.bytes);
      if (taken.opcode === TEXT) receive(taken.payload.toString('utf8'), line, list);
      else if (taken.opcode === PING) socket.write(frame(FINAL | PONG, taken.payload));
      else if (taken.opcode === CLOSE) socket.end(frame(FINAL | CLOSE, taken.payload));
    }
  });
}

/** One frame for each part, with a ping in between, which is allowed there. */
const fragments = (parts) =>
  parts.flatMap((part, index) => [
    frame((index ? CONTINUE : TEXT) | (index === parts.length - 1 ? FINAL : 0), part),
    ...(index === 0 ? [frame(FINAL | PING, '')] : []),
  ]);

function frame(first, payload) {
  const bytes = Buffer.from(payload);
  let head = Buffer.from([first, bytes.length]);
  if (bytes.length > 65_535) {
    head = Buffer.alloc(10);
    head.writeBigUInt64BE(BigInt(bytes.length), 2);
    head.writeUInt16BE((first << 8) | 127);
  } else if (bytes.length > 125) {
    head = Buffer.from([first, 126, bytes.length >> 8, bytes.length & 0xff]);
  }
  return Buffer.concat([head, bytes]);
}

/** The first frame of what a client sent, unmasked; the gateway sends a message in one frame. */
function unframe(buffer) {
  if (buffer.length < 2) return undefined;
  let [length, offset] = [buffer[1] & 0x7f, 2];
  if (length === 126) [length, offset] = [buffer.length < 4 ? Infinity : buffer.readUInt16BE(2), 4];
  if (length === 127) [length, offset] = [buffer.length < 10 ? Infinity : Number(buffer.readBigUInt64BE(2)), 10];
  if (buffer.length < offset + 4 + length) return undefined;
  const mask = buffer.subarray(offset, offset + 4);
  const payload = Buffer.from(buffer.subarray(offset + 4, offset + 4 + length)).map((byte, i) => byte ^ mask[i % 4]);
  return { opcode: buffer[0] & 0xf, payload, bytes: offset + 4 + length };
}
