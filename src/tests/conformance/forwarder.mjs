// Puts a header on each request: the suite's command line can't send an API key.
//
// It passes everything on as it comes, streams and cancellations among it. Only a Host or Origin that names
// the forwarder is made to name the target; any other is the suite's probe and has to arrive as it was sent.
import { once } from 'node:events';
import http from 'node:http';
import { pipeline } from 'node:stream';

/** Resolves with the URL to call in place of `target`, and a function that ends it. */
export async function startForwarder(target, headers) {
  const to = new URL(target);
  let names = []; // What a client may call the forwarder.
  const server = http.createServer((req, res) => {
    const sent = { ...req.headers, ...headers };
    if (names.includes(sent.host)) sent.host = to.host;
    if (names.some((name) => sent.origin === `http://${name}`)) sent.origin = to.origin;
    delete sent.connection;

    const forwarded = http.request(
      // Without an agent: a connection of its own for each request, so that none is reused as it closes.
      {
        host: to.hostname,
        port: to.port,
        path: to.pathname + to.search,
        method: req.method,
        headers: sent,
        agent: false,
      },
      (answer) => {
        const { connection: _connection, ...rest } = answer.headers;
        res.writeHead(answer.statusCode, rest);
        res.flushHeaders();
        pipeline(answer, res, () => {}); // Either side may end it: that is how calls are cancelled.
      },
    );
    forwarded.on('error', () => (res.headersSent ? res.destroy() : res.writeHead(502).end()));
    res.on('close', () => forwarded.destroy());
    pipeline(req, forwarded, () => {});
  });

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  names = ['127.0.0.1', 'localhost'].map((host) => `${host}:${server.address().port}`);
  const stop = async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  };
  return { url: `http://${names[0]}${to.pathname}`, stop };
}
