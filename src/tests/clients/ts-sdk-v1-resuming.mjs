#!/usr/bin/env node
// The official TypeScript SDK, first generation, behind something that cuts its connections: it comes back by
// itself, with the id of the last event it has.
//
//   ts-sdk-v1-resuming.mjs URL KEY CALLS STEPS
//
// Makes so many calls of `steps`, one after the other. Prints a line when the first step of each has come, and
// in the end what it saw of all as one line of JSON.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const [url, key, calls, count] = process.argv.slice(2);
const client = new Client({ name: 'ts-sdk-v1', version: '1' }, { capabilities: {} });
const headers = { Authorization: `Bearer ${key}` };
const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
await client.connect(transport);

// As it comes: the client itself hands on no progress that it reads in one piece with the answer.
let steps = [];
const { onmessage } = transport;
transport.onmessage = (message, extra) => {
  if (message.method === 'notifications/progress') {
    steps.push(message.params.progress);
    if (steps.length === 1) console.log('begun');
  }
  onmessage(message, extra);
};
const seen = [];
for (let call = 0; call < Number(calls); call += 1) {
  steps = [];
  const params = { name: 'steps', arguments: { canary: `call ${call}`, count: Number(count) } };
  const result = await client.callTool(params, undefined, { onprogress: () => {} });
  seen.push({ text: result.content[0].text, steps });
}
await client.close();
console.log(JSON.stringify({ protocolVersion: transport.protocolVersion, seen }));
process.exit(0);
