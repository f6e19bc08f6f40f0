#!/usr/bin/env node
// The official TypeScript SDK, second generation, in either era.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { exercise, report } from './common.mjs';

await report('ts-sdk-v2', async ({ url, headers, era, calls }) => {
  const mode = era === 'modern' ? { pin: '2026-07-28' } : 'legacy';
  const client = new Client({ name: 'ts-sdk-v2', version: '1' }, { versionNegotiation: { mode } });
  const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
  await client.connect(transport);
  const done = await exercise(client, calls);
  const protocolVersion = client.getNegotiatedProtocolVersion();
  if (era === 'legacy') await transport.terminateSession();
  await client.close();
  return { protocolVersion, ...done };
});
