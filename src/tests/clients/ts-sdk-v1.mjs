#!/usr/bin/env node
// The official TypeScript SDK, first generation (legacy era only), over each of its transports that has an address.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { WebSocketClientTransport } from '@modelcontextprotocol/sdk/client/websocket.js';
import { exercise, report } from './common.mjs';

const TRANSPORTS = {
  http: ({ url, headers }) => new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }),
  sse: ({ url, headers }) => new SSEClientTransport(new URL(url), { requestInit: { headers } }),
  ws: ({ url, key }) => new WebSocketClientTransport(new URL(`${url}?api_key=${key}`)), // It can't set headers.
};

await report('ts-sdk-v1', async (given) => {
  if (given.era !== 'legacy') throw new Error('this client speaks the legacy era only');
  const client = new Client({ name: 'ts-sdk-v1', version: '1' }, { capabilities: {} });
  const transport = TRANSPORTS[given.transport](given);
  // Not every transport tells the version that was agreed, so it is seen as it goes by.
  let protocolVersion;
  const set = transport.setProtocolVersion?.bind(transport);
  transport.setProtocolVersion = (version) => {
    protocolVersion = version;
    set?.(version);
  };
  await client.connect(transport);
  const done = await exercise(client, given.calls);
  await transport.terminateSession?.();
  await client.close();
  return { protocolVersion, ...done };
});
