#!/usr/bin/env node
// The official TypeScript SDK, first generation (legacy era only).
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { exercise, report } from './common.mjs';

await report('ts-sdk-v1', async ({ url, headers, era, calls }) => {
  if (era !== 'legacy') throw new Error('this client speaks the legacy era only');
  const client = new Client({ name: 'ts-sdk-v1', version: '1' }, { capabilities: {} });
  const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
  await client.connect(transport);
  const done = await exercise(client, calls);
  const protocolVersion = transport.protocolVersion;
  await transport.terminateSession();
  await client.close();
  return { protocolVersion, ...done };
});
