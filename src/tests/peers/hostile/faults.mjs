// What the hostile server says, whatever it is said over.
//
// A line is one connection, or one answer over HTTP: `send` says one message, `pieces` says it in the smallest parts
// that the transport has, `half` breaks off, `endless` begins a message that never ends; each resolves when it is
// written. `end` says that no more comes, where that can be said, and `isOpen` whether anybody still listens.

const ENDLESS_BYTES = 2 ** 30;
const TOOLS = ['says', 'pieces', 'half', 'endless', 'flood', 'guesses', 'hold'];
const FILLER_BYTES = 64 * 1024;

const text = (id, value) => message({ id, result: { content: [{ type: 'text', text: value }] } });
const message = (fields) => JSON.stringify({ jsonrpc: '2.0', ...fields });
const tool = (name) => ({ name, inputSchema: { type: 'object' } });
const filled = (value) => value.repeat(Math.ceil(FILLER_BYTES / value.length));

const cancelled = new Set();
const held = [];

const faults = {
  /** These texts, in which $ID stands for the request's. */
  async says({ texts }, id, line) {
    for (const one of texts) await line.send(one.replaceAll('$ID', JSON.stringify(id)));
    await line.end();
  },
  /** A good answer, cut as small as can be. */
  pieces: ({ nonce }, id, line) => line.pieces(text(id, nonce)),
  /** The first half of a good answer, and the end of the connection. */
  half: (_, id, line) => line.half(text(id, 'a whole answer')),
  /** One answer that goes on for a gibibyte. */
  endless: (_, id, line) => line.endless(text(id, '').replace('"text":""', '"text":"'), filled('x'), ENDLESS_BYTES),
  /** One text again and again until the call is given up. */
  async flood({ text: said }, id, line) {
    const one = said.replaceAll('$ID', JSON.stringify(id));
    while (line.isOpen() && !cancelled.has(id)) await line.send(one);
    await line.end();
  },
  /** Answers to everybody near, and its own last. */
  async guesses({ around, nonce }, id, line) {
    for (let other = id - around; other <= id + around; other += 1) {
      if (other !== id) await line.send(text(other, 'not asked for'));
    }
    await line.send(text(id, nonce));
    await line.end();
  },
  /** Answers when so many calls wait, the last that came first. */
  async hold({ count, nonce }, id, line) {
    held.push({ nonce, id, line });
    if (held.length < count) return;
    for (const call of held.splice(0).reverse()) {
      await call.line.send(text(call.id, call.nonce));
      await call.line.end();
    }
  },
};

const lists = {
  good: (id) => message({ id, result: { tools: TOOLS.map(tool) } }),
  endless: (id, { cursor = '0' } = {}) =>
    message({ id, result: { tools: [tool(`t${cursor}`)], nextCursor: String(Number(cursor) + 1) } }),
  repeated: (id) => message({ id, result: { tools: [tool('again')], nextCursor: 'again' } }),
  garbage: (id) => message({ id, result: { tools: 'none' } }),
};

/** Answers one message. */
export async function receive(raw, line, list) {
  const { id, method, params } = JSON.parse(raw);
  if (method === 'notifications/cancelled') cancelled.add(params.requestId);
  if (id === undefined || method === undefined) return line.end();
  if (method === 'tools/call') return faults[params.name](params.arguments, id, line);
  if (method === 'tools/list' && list === 'half') return line.half(lists.good(id));
  if (method === 'tools/list' && list === 'huge') {
    const begin = message({ id, result: { tools: [tool('huge')] } }).slice(0, -3);
    return line.endless(begin, filled(`,${JSON.stringify(tool('huge'))}`), ENDLESS_BYTES);
  }
  await line.send(answer(id, method, params, list));
  return line.end();
}

function answer(id, method, params, list) {
  if (method === 'initialize') {
    const serverInfo = { name: 'hostile', version: '1' };
    const capabilities = { tools: { listChanged: true } };
    return message({ id, result: { protocolVersion: '2025-11-25', capabilities, serverInfo } });
  }
  if (method === 'tools/list') return lists[list](id, params);
  if (method === 'ping') return message({ id, result: {} });
  return message({ id, error: { code: -32601, message: 'Method not found' } });
}
