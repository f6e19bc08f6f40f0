// WebSocket (RFC 6455) for the reference server: one message a text frame, subprotocol `mcp`; the connection
// is the session. What its own clients don't do, such as extensions, it has not.
import http from 'node:http';
import { createHash } from 'node:crypto';
import { Conversation } from './session.mjs';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const [CONTINUE, TEXT, CLOSE, PING, PONG] = [0x0, 0x1, 0x8, 0x9, 0xa];
const TOO_BIG = 1009;
const MESSAGE_BYTES_MAX = 4 * 1024 * 1024;

/** Listens, and resolves with the port and a function that ends everything. */
export function serveWebSocket(server, { port, path }) {
  const sockets = new Set();
  const listener = http.createServer((req, res) => res.writeHead(426).end());
  listener.on('upgrade', (req, socket, head) => {
    if (new URL(req.url, 'http://localhost').pathname !== path) {
      return socket.end('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n');
    }
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    return serve(server, req, socket, head);
  });
  return new Promise((resolve, reject) => {
    listener.on('error', reject);
    listener.listen(port, '127.0.0.1', () => {
      const close = () => {
        listener.close();
        for (const socket of sockets) socket.destroy();
      };
      resolve({ port: listener.address().port, close });
    });
  });
}

function serve(server, req, socket, head) {
  const accept = createHash('sha1')
    .update(req.headers['sec-websocket-key'] + GUID)
    .digest('base64');
  const offered = (req.headers['sec-websocket-protocol'] ?? '').split(',').map((one) => one.trim());
  const chosen = offered.includes('mcp') ? 'Sec-WebSocket-Protocol: mcp\r\n' : '';
  socket.write(
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Accept: ${accept}\r\n${chosen}\r\n`,
  );
  const client = new Conversation(server, (message) => socket.write(frame(TEXT, Buffer.from(JSON.stringify(message)))));
  const reader = new Reader();
  const take = (chunk) => {
    for (const { opcode, payload } of reader.push(chunk)) {
      if (opcode === TEXT) client.receive(payload.toString('utf8'));
      else if (opcode === PING) socket.write(frame(PONG, payload));
      else if (opcode === CLOSE) socket.end(frame(CLOSE, payload));
    }
    if (reader.isTooBig) socket.end(frame(CLOSE, Buffer.from([TOO_BIG >> 8, TOO_BIG & 0xff])));
  };
  socket.on('data', take);
  socket.on('error', () => socket.destroy());
  socket.on('close', () => client.end());
  if (head.length) take(head);
}

function frame(opcode, payload) {
  const header = Buffer.alloc(10);
  header[0] = 0x80 | opcode;
  let bytes = 2;
  if (payload.length < 126) header[1] = payload.length;
  else if (payload.length < 65_536) {
    header[1] = 126;
    bytes += header.writeUInt16BE(payload.length, 2) - 2;
  } else {
    header[1] = 127;
    bytes += Number(header.writeBigUInt64BE(BigInt(payload.length), 2)) - 2;
  }
  return Buffer.concat([header.subarray(0, bytes), payload]);
}

/** Takes a client's stream apart: whole messages and control frames, unmasked. */
class Reader {
  #buffer = Buffer.alloc(0);
  #parts = [];
  isTooBig = false;

  *push(chunk) {
    this.#buffer = Buffer.concat([this.#buffer, chunk]);
    for (let next = this.#frame(); next; next = this.#frame()) {
      if (next.opcode !== TEXT && next.opcode !== CONTINUE) {
        yield next;
        continue;
      }
      this.#parts.push(next.payload);
      if (!next.isLast) continue;
      yield { opcode: TEXT, payload: Buffer.concat(this.#parts) };
      this.#parts = [];
    }
  }

  #frame() {
    const buffer = this.#buffer;
    if (buffer.length < 2) return undefined;
    const short = buffer[1] & 0x7f;
    const extra = short === 126 ? 2 : short === 127 ? 8 : 0;
    const start = 2 + extra + 4; // A client masks all it sends.
    if (buffer.length < start) return undefined;
    const length = extra === 0 ? short : extra === 2 ? buffer.readUInt16BE(2) : Number(buffer.readBigUInt64BE(2));
    this.isTooBig ||= length > MESSAGE_BYTES_MAX;
    if (this.isTooBig || buffer.length < start + length) return undefined;
    const mask = buffer.subarray(start - 4, start);
    const payload = Buffer.from(buffer.subarray(start, start + length));
    for (let at = 0; at < length; at += 1) payload[at] ^= mask[at % 4];
    this.#buffer = buffer.subarray(start + length);
    return { opcode: buffer[0] & 0x0f, isLast: (buffer[0] & 0x80) !== 0, payload };
  }
}
