// What the client scripts share: their arguments, the calls they make, and the line they print.
import { parseArgs } from 'node:util';

/** URL [KEY] [--transport http|sse|ws] [--era legacy|modern] [--calls JSON: arguments by tool]. */
export function options() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      transport: { type: 'string', default: 'http' },
      era: { type: 'string', default: 'legacy' },
      calls: { type: 'string', default: '{}' },
    },
  });
  const [url, key] = positionals;
  if (!url || !['legacy', 'modern'].includes(values.era) || !['http', 'sse', 'ws'].includes(values.transport)) {
    console.error('usage: URL [KEY] [--transport http|sse|ws] [--era legacy|modern] [--calls JSON]');
    process.exit(2);
  }
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  return { ...values, url, key, calls: JSON.parse(values.calls), headers };
}

/** Runs `work`, prints what it returns as one line of JSON, and exits with 0 or, on any failure, 1. */
export async function report(client, work) {
  const given = options();
  try {
    const { protocolVersion, tools, results } = await work(given);
    console.log(JSON.stringify({ client, era: given.era, protocolVersion, tools, results }));
    process.exit(0);
  } catch (error) {
    console.error(`${client} (${given.transport}, ${given.era}): ${error.stack ?? error}`);
    process.exit(1);
  }
}

/** Lists all tools and makes the calls, with either generation of the TypeScript SDK. */
export async function exercise(client, calls) {
  const tools = [];
  let cursor;
  do {
    const page = await client.listTools(cursor ? { cursor } : {});
    tools.push(...page.tools.map((tool) => tool.name));
    cursor = page.nextCursor;
  } while (cursor);
  const results = {};
  for (const [name, args] of Object.entries(calls)) {
    results[name] = await client.callTool({ name, arguments: args });
  }
  return { tools, results };
}
