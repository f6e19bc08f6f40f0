#!/usr/bin/env node
// The official TypeScript SDK, first generation, over the two transports that have one channel for
// everything. Not for run.mjs, which has the clients of the endpoint that every client speaks.
//
//   ts-sdk-v1-connections.mjs sse|ws GATEWAY KEY
//
// Prints what it saw as one line of JSON; exit 0: all of it was as it should be.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { WebSocketClientTransport } from '@modelcontextprotocol/sdk/client/websocket.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const [kind, gateway, key] = process.argv.slice(2);

function transport() {
  if (kind === 'sse') {
    const headers = { Authorization: `Bearer ${key}` };
    return new SSEClientTransport(new URL(`${gateway}/mcp/sse`), { requestInit: { headers } });
  }
  // It can't set headers.
  return new WebSocketClientTransport(new URL(`${gateway.replace('http', 'ws')}/mcp/ws?api_key=${key}`));
}

const client = new Client({ name: 'ts-sdk-v1', version: '1' }, { capabilities: { elicitation: {} } });
let asked = 0;
client.setRequestHandler(ElicitRequestSchema, () => {
  asked += 1;
  return { action: 'accept', content: { username: 'ada', email: 'ada@example.com' } };
});
const channel = transport();
// The version that was agreed isn't told by every transport, so it is seen as it goes by.
let protocolVersion;
channel.setProtocolVersion = (version) => {
  protocolVersion = version;
};
await client.connect(channel);

const { tools } = await client.listTools();
const progress = [];
const onprogress = (step) => progress.push(step.progress);
await client.callTool({ name: 'test_tool_with_progress', arguments: {} }, undefined, { onprogress });
const elicited = await client.callTool({ name: 'test_elicitation', arguments: { message: 'Who?' } });

const counters = async () => (await client.callTool({ name: 'counters', arguments: {} })).structuredContent;
const { calls } = await counters();
const cancel = new AbortController();
const sleeping = client.callTool({ name: 'sleep', arguments: { ms: 3_600_000 } }, undefined, { signal: cancel.signal });
// A cancellation that overtakes its call is no cancellation, so it waits until the call has come. Each look is a call.
for (let looks = 1; (await counters()).calls < calls + looks + 1; looks += 1);
cancel.abort('enough');
const cancelled = await sleeping.then(
  () => false,
  () => true,
);
while ((await counters()).cancelled === 0);
await client.close();

const text = elicited.content[0].text;
console.log(
  JSON.stringify({ protocolVersion, tools: tools.map((tool) => tool.name), progress, asked, text, cancelled }),
);
process.exit(0);
