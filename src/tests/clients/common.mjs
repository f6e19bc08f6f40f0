// What the client scripts share: their arguments, the calls they make, and the line they print.
import { parseArgs } from 'node:util';

// One tool of each example server: npm's server-everything, and PyPI's mcp-server-time.
const CALLS = { echo: { message: 'through the gateway' }, get_current_time: { timezone: 'Etc/UTC' } };

/** URL [KEY] [--era legacy|modern] [--calls JSON], or MPG_TEST_URL, MPG_TEST_KEY. */
export function options() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { era: { type: 'string', default: 'legacy' }, calls: { type: 'string' } },
  });
  const [url = process.env.MPG_TEST_URL, key = process.env.MPG_TEST_KEY] = positionals;
  if (!url || !['legacy', 'modern'].includes(values.era)) {
    console.error('usage: URL [KEY] [--era legacy|modern] [--calls JSON]');
    process.exit(2);
  }
  const calls = values.calls ? JSON.parse(values.calls) : CALLS;
  return { url, key, era: values.era, calls, headers: key ? { Authorization: `Bearer ${key}` } : {} };
}

/** Runs `work`, prints what it returns as one line of JSON, and exits with 0 or, on any failure, 1. */
export async function report(client, work) {
  const { era, ...rest } = options();
  try {
    const { protocolVersion, tools, results } = await work({ era, ...rest });
    for (const [name, result] of Object.entries(results)) {
      if (result.isError || !result.content?.length) throw new Error(`${name}: ${JSON.stringify(result)}`);
    }
    console.log(JSON.stringify({ client, era, protocolVersion, tools, results }));
    process.exit(0);
  } catch (error) {
    console.error(`${client} (${era}): ${error.stack ?? error}`);
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
