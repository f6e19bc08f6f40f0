// HTTP+SSE of 2024-11-05 for the reference server: a GET opens the session and its stream, POSTs go to the
// endpoint that the stream names first, and all answers come on the stream.
import http from 'node:http';
import { randomUUID } from 'node:crypto';
import { Conversation } from './session.mjs';

const BODY_BYTES_MAX = 4 * 1024 * 1024;

/** Listens, and resolves with the port and a function that ends everything. */
export function serveHttpSse(server, { port, path }) {
  const clients = new Map();
  const listener = http.createServer((req, res) => {
    const url = new URL(req.url, 'http://localhost');
    if (req.method === 'GET' && url.pathname === path) return open(server, clients, path, res);
    const client = clients.get(url.searchParams.get('session'));
    if (req.method === 'POST' && url.pathname === `${path}/messages` && client) return take(client, req, res);
    return res.writeHead(404).end();
  });
  return new Promise((resolve, reject) => {
    listener.on('error', reject);
    listener.listen(port, '127.0.0.1', () => {
      const close = () => {
        listener.close();
        listener.closeAllConnections();
      };
      resolve({ port: listener.address().port, close });
    });
  });
}

function open(server, clients, path, res) {
  const id = randomUUID();
  res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  res.write(`event: endpoint\ndata: ${path}/messages?session=${id}\n\n`);
  const send = (message) => res.write(`event: message\ndata: ${JSON.stringify(message)}\n\n`);
  const client = new Conversation(server, send);
  clients.set(id, client);
  res.on('close', () => {
    clients.delete(id);
    client.end();
  });
}

async function take(client, req, res) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of req) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) return res.writeHead(413).end();
    chunks.push(chunk);
  }
  res.writeHead(202).end('Accepted');
  return client.receive(Buffer.concat(chunks).toString('utf8'));
}
