// The tools of the reference server: the names that the official conformance suite calls, and a few that
// our own tests want (echo, add, sleep, counters).
//
// A tool is `run(args, call, prepared)`. One with `taskSupport` can be run as a task, of which what
// `prepare(args, call)` asks is no part yet. It doesn't know which era it serves: `call.ask` sends real requests to a
// legacy client, and ends a modern call with `input_required` until the retry brings the answers.
import { INTERNAL_ERROR, RpcError, ToolFailure } from './errors.mjs';

// One pixel, and eight samples of silence: the smallest valid files of their kinds.
export const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGOQz38NAAIqAXp4ksuCAAAAAElFTkSuQmCC';
const WAV = 'UklGRiwAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQgAAACAgICAgICAgA==';
const PAUSE_MS = 50; // What the suite asks for between two notifications.

const text = (value) => ({ content: [{ type: 'text', text: value }] });
const object = (properties = {}, required = []) => ({
  type: 'object',
  properties,
  ...(required.length ? { required } : {}),
});
const string = (description) => ({ type: 'string', ...(description ? { description } : {}) });

/** The app of `test_app`, and what it shows: which process this is. */
export const APP = 'ui://reference/clock.html';
export const clock = () => `the clock of ${process.pid}`;

export const elicit = (message, properties, required) => ({
  method: 'elicitation/create',
  params: { message, requestedSchema: object(properties, required) },
});
const sample = (prompt, maxTokens) => ({
  method: 'sampling/createMessage',
  params: { messages: [{ role: 'user', content: { type: 'text', text: prompt } }], maxTokens },
});
const listRoots = () => ({ method: 'roots/list', params: {} });

/** The text of a sampling answer, whose content may be one block or a list of them. */
const sampledText = (answer) => [answer.content].flat().find((block) => block?.type === 'text')?.text ?? '';
const rootNames = (answer) => answer.roots.map((root) => root.name ?? root.uri).join(', ');
const elicited = (answer) => `action=${answer.action}, content=${JSON.stringify(answer.content ?? {})}`;

async function mirror({ nonce, ms = 0, asks = false }, call) {
  call.log('info', nonce);
  call.progress(1, 2, nonce);
  await call.pause(ms);
  call.progress(2, 2, nonce);
  let heard = 'nothing';
  if (asks) {
    try {
      const { who } = await call.ask({ who: elicit(nonce, { nonce: string() }, ['nonce']) });
      heard = who.content.nonce;
    } catch (error) {
      if (!(error instanceof ToolFailure)) throw error;
      heard = 'a refusal'; // Of a client that shares its connection with others.
    }
  }
  return { ...text(nonce), structuredContent: { nonce, heard, process: process.pid } };
}

const plain = {
  echo: {
    description: 'Returns its message.',
    inputSchema: object({ message: string('What to say back') }, ['message']),
    run: ({ message }) => text(`Echo: ${message}`),
  },
  add: {
    title: 'Add two numbers',
    description: 'Returns a sum as text and as structured content.',
    inputSchema: object({ a: { type: 'number' }, b: { type: 'number' } }, ['a', 'b']),
    outputSchema: object({ sum: { type: 'number' } }, ['sum']),
    annotations: { readOnlyHint: true, idempotentHint: true },
    run: ({ a, b }) => ({ ...text(String(a + b)), structuredContent: { sum: a + b } }),
  },
  mirror: {
    description: 'Says a nonce in every way there is, after a while, and which process it is.',
    inputSchema: object({ nonce: string(), ms: { type: 'integer' }, asks: { type: 'boolean' } }, ['nonce']),
    run: mirror,
  },
  sleep: {
    description: 'Waits, then answers. Can be cancelled; a cancelled call is counted.',
    inputSchema: object({ ms: { type: 'integer', minimum: 0 } }, ['ms']),
    run: async ({ ms }, call) => {
      await call.pause(ms);
      return text(`slept ${ms} ms`);
    },
  },
  counters: {
    description: 'What this server has seen so far: calls, cancellations, sessions, subscriptions.',
    inputSchema: object(),
    run: (_, call) => ({
      ...text(JSON.stringify(call.server.counters)),
      structuredContent: { ...call.server.counters },
    }),
  },
  test_cancellations: {
    description: 'Answers once that many calls have been cancelled in all.',
    inputSchema: object({ count: { type: 'integer', minimum: 0 } }, ['count']),
    run: async ({ count }, call) => {
      await call.server.cancelled(count);
      return text(`${call.server.counters.cancelled} calls were cancelled`);
    },
  },
  test_app: {
    description: 'Says whose clock it is; an app shows it. Offered to those who can show apps.',
    inputSchema: object(),
    _meta: { ui: { resourceUri: APP, visibility: ['model', 'app'] }, 'reference/own': 1 },
    run: () => text(clock()),
  },
  test_simple_text: {
    description: 'Returns one text block.',
    inputSchema: object(),
    run: () => text('This is a simple text response for testing.'),
  },
  test_image_content: {
    description: 'Returns one image block.',
    inputSchema: object(),
    run: () => ({ content: [{ type: 'image', data: PNG, mimeType: 'image/png' }] }),
  },
  test_audio_content: {
    description: 'Returns one audio block.',
    inputSchema: object(),
    run: () => ({ content: [{ type: 'audio', data: WAV, mimeType: 'audio/wav' }] }),
  },
  test_embedded_resource: {
    description: 'Returns one embedded resource.',
    inputSchema: object(),
    run: () => ({
      content: [
        {
          type: 'resource',
          resource: {
            uri: 'test://embedded-resource',
            mimeType: 'text/plain',
            text: 'This is an embedded resource content.',
          },
        },
      ],
    }),
  },
  test_multiple_content_types: {
    description: 'Returns a text, an image and an embedded resource.',
    inputSchema: object(),
    run: () => ({
      content: [
        { type: 'text', text: 'Multiple content types test:' },
        { type: 'image', data: PNG, mimeType: 'image/png' },
        {
          type: 'resource',
          resource: {
            uri: 'test://mixed-content-resource',
            mimeType: 'application/json',
            text: JSON.stringify({ test: 'data', value: 123 }),
          },
        },
      ],
    }),
  },
  test_error_handling: {
    description: 'Always fails, as a tool does: with a result that says so.',
    inputSchema: object(),
    run: () => {
      throw new ToolFailure('This tool intentionally returns an error for testing');
    },
  },
  json_schema_2020_12_tool: {
    description: 'Has an input schema that uses much of JSON Schema 2020-12.',
    inputSchema: {
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      type: 'object',
      $defs: {
        address: {
          $anchor: 'address',
          type: 'object',
          properties: { street: { type: 'string' }, city: { type: 'string' } },
        },
      },
      properties: {
        name: { type: 'string' },
        address: { $ref: '#/$defs/address' },
        by: { type: 'string', enum: ['phone', 'mail'] },
        phone: { type: 'string' },
        mail: { type: 'string' },
      },
      allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['mail'] }] }],
      if: { properties: { by: { const: 'phone' } }, required: ['by'] },
      then: { required: ['phone'] },
      else: { required: ['mail'] },
      additionalProperties: false,
    },
    run: (args) => text(JSON.stringify(args)),
  },
  test_header_parameters: {
    description: 'Mirrors two of its parameters in HTTP headers (x-mcp-header).',
    inputSchema: object({
      region: { type: 'string', 'x-mcp-header': 'Region' },
      attempt: { type: 'integer', 'x-mcp-header': 'Attempt' },
      query: string(),
    }),
    run: (args) => text(JSON.stringify(args)),
  },
};

const talking = {
  test_tool_with_logging: {
    description: 'Sends three log messages while it runs.',
    inputSchema: object(),
    run: async (_, call) => {
      call.log('info', 'Tool execution started');
      await call.pause(PAUSE_MS);
      call.log('info', 'Tool processing data');
      await call.pause(PAUSE_MS);
      call.log('info', 'Tool execution completed');
      return text('Tool with logging executed successfully');
    },
  },
  test_logging_tool: {
    description: 'Sends one log message, if the caller asked for log messages.',
    inputSchema: object(),
    run: (_, call) => {
      call.log('info', 'a log message of test_logging_tool');
      return text('logged');
    },
  },
  test_logging_levels: {
    description: 'Sends a log message at debug, one at info and one at error.',
    inputSchema: object(),
    run: (_, call) => {
      for (const level of ['debug', 'info', 'error']) call.log(level, `said at ${level}`);
      return text('logged');
    },
  },
  test_tool_with_progress: {
    description: 'Reports progress three times, if the caller asked for it.',
    inputSchema: object(),
    run: async (_, call) => {
      for (const progress of [0, 50, 100]) {
        call.progress(progress, 100);
        if (progress < 100) await call.pause(PAUSE_MS);
      }
      return text('Tool with progress executed successfully');
    },
  },
  test_wait_for_cancellation: {
    description: 'Reports progress once, if the caller asked for it, and ends only when it is cancelled.',
    inputSchema: object(),
    run: async (_, call) => {
      call.progress(0);
      for (;;) await call.pause(60_000);
    },
  },
  test_reconnection: {
    description: 'Closes its event stream in the middle of the call; the answer waits for the reconnection.',
    inputSchema: object(),
    run: async (_, call) => {
      call.closeStream();
      await call.pause(PAUSE_MS);
      return text('Reconnection test completed successfully');
    },
  },
  test_trigger_tool_change: {
    description: 'Changes the definition of test_changing_tool and says so.',
    inputSchema: object(),
    run: (_, call) => text(`tools are at revision ${call.server.changeTools()}`),
  },
  test_trigger_prompt_change: {
    description: 'Changes the definition of test_changing_prompt and says so.',
    inputSchema: object(),
    run: (_, call) => text(`prompts are at revision ${call.server.changePrompts()}`),
  },
  test_update_watched_resource: {
    description: 'Changes test://watched-resource and tells those who subscribed.',
    inputSchema: object(),
    run: (_, call) => text(`test://watched-resource is at revision ${call.server.changeWatched()}`),
  },
};

const asking = {
  test_sampling: {
    description: 'Has the client sample a model.',
    inputSchema: object({ prompt: string('What to ask the model') }, ['prompt']),
    run: async ({ prompt }, call) => {
      const { sampling } = await call.ask({ sampling: sample(prompt, 100) });
      return text(`LLM response: ${sampledText(sampling)}`);
    },
  },
  test_elicitation: {
    description: 'Has the client ask its user.',
    inputSchema: object({ message: string('What to show the user') }, ['message']),
    run: async ({ message }, call) => {
      const fields = { username: string("User's response"), email: string("User's email address") };
      const { user } = await call.ask({ user: elicit(message, fields, ['username', 'email']) });
      return text(`User response: ${elicited(user)}`);
    },
  },
  test_elicitation_sep1034_defaults: {
    description: 'Asks with a default value for each primitive type.',
    inputSchema: object(),
    run: async (_, call) => {
      const { user } = await call.ask({
        user: elicit('Please review the defaults', {
          name: { type: 'string', default: 'John Doe' },
          age: { type: 'integer', default: 30 },
          score: { type: 'number', default: 95.5 },
          status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
          verified: { type: 'boolean', default: true },
        }),
      });
      return text(`Elicitation completed: ${elicited(user)}`);
    },
  },
  test_elicitation_sep1330_enums: {
    description: 'Asks with each of the five ways to write a choice.',
    inputSchema: object(),
    run: async (_, call) => {
      const titled = (...titles) => titles.map((title, i) => ({ const: `value${i + 1}`, title }));
      const { user } = await call.ask({
        user: elicit('Please choose', {
          untitledSingle: { type: 'string', enum: ['option1', 'option2', 'option3'] },
          titledSingle: { type: 'string', oneOf: titled('First Option', 'Second Option', 'Third Option') },
          legacyEnum: {
            type: 'string',
            enum: ['opt1', 'opt2', 'opt3'],
            enumNames: ['Option One', 'Option Two', 'Option Three'],
          },
          untitledMulti: { type: 'array', items: { type: 'string', enum: ['option1', 'option2', 'option3'] } },
          titledMulti: { type: 'array', items: { anyOf: titled('First Choice', 'Second Choice', 'Third Choice') } },
        }),
      });
      return text(`Elicitation completed: ${elicited(user)}`);
    },
  },
  test_missing_capability: {
    description: 'Needs a client that can sample.',
    inputSchema: object(),
    run: async (_, call) => {
      const { sampling } = await call.ask({ sampling: sample('Say something', 10) });
      return text(sampledText(sampling));
    },
  },
  test_streaming_elicitation: {
    description: 'Opens an event stream, then asks the user.',
    inputSchema: object(),
    run: async (_, call) => {
      call.openStream();
      const { user } = await call.ask({ user: elicit('May I go on?', { ok: { type: 'boolean' } }, ['ok']) });
      return text(`Elicitation completed: ${elicited(user)}`);
    },
  },
  test_input_required_result_elicitation: {
    description: 'Asks for a name.',
    inputSchema: object(),
    run: async (_, call) => {
      const { user_name: user } = await call.ask({
        user_name: elicit('What is your name?', { name: string() }, ['name']),
      });
      return text(`Hello, ${user.content?.name ?? 'stranger'}!`);
    },
  },
  test_input_required_result_sampling: {
    description: 'Asks a model for a capital.',
    inputSchema: object(),
    run: async (_, call) => {
      const answers = await call.ask({ capital_question: sample('What is the capital of France?', 100) });
      return text(sampledText(answers.capital_question));
    },
  },
  test_input_required_result_list_roots: {
    description: "Asks for the client's roots.",
    inputSchema: object(),
    run: async (_, call) => {
      const answers = await call.ask({ client_roots: listRoots() });
      return text(`Roots: ${rootNames(answers.client_roots)}`);
    },
  },
  test_input_required_result_request_state: {
    description: 'Asks, and checks that its state comes back whole.',
    inputSchema: object(),
    run: async (_, call) => {
      const request = { confirm: elicit('Please confirm', { ok: { type: 'boolean' } }, ['ok']) };
      await call.ask(request, { withState: true });
      return text(call.stateIsValid ? 'state-ok' : 'no state was given');
    },
  },
  test_input_required_result_multiple_inputs: {
    description: 'Asks three things at once.',
    inputSchema: object(),
    run: async (_, call) => {
      const answers = await call.ask(
        {
          user_name: elicit('What is your name?', { name: string() }, ['name']),
          greeting: sample('Generate a greeting', 50),
          client_roots: listRoots(),
        },
        { withState: true },
      );
      const name = answers.user_name.content?.name ?? 'stranger';
      return text(`${sampledText(answers.greeting)} ${name}; roots: ${rootNames(answers.client_roots)}`);
    },
  },
  test_input_required_result_multi_round: {
    description: 'Asks twice, the second time with a new state.',
    inputSchema: object(),
    run: async (_, call) => {
      const first = { step1: elicit('Step 1: What is your name?', { name: string() }, ['name']) };
      const { step1 } = await call.ask(first, { withState: true });
      const second = { step2: elicit('Step 2: What is your favorite color?', { color: string() }, ['color']) };
      const { step2 } = await call.ask(second, { withState: true });
      return text(`${step1.content?.name ?? 'someone'} likes ${step2.content?.color ?? 'no color'}`);
    },
  },
  test_input_required_result_tampered_state: {
    description: 'Asks, and refuses a state that somebody changed.',
    inputSchema: object(),
    run: async (_, call) => {
      const request = { confirm: elicit('Please confirm', { ok: { type: 'boolean' } }, ['ok']) };
      await call.ask(request, { withState: true });
      return text('state was intact');
    },
  },
  test_input_required_result_capabilities: {
    description: 'Asks only what the client says it can answer.',
    inputSchema: object(),
    run: async (_, call) => {
      const all = {
        sampling: ['greeting', sample('Generate a greeting', 50)],
        elicitation: ['user_name', elicit('What is your name?', { name: string() }, ['name'])],
        roots: ['client_roots', listRoots()],
      };
      const able = Object.keys(all).filter((capability) => call.capabilities[capability]);
      await call.ask(Object.fromEntries(able.map((capability) => all[capability])));
      return text(`asked: ${able.join(', ') || 'nothing'}`);
    },
  },
};

const tasked = {
  greet: {
    description: 'Greets, at once.',
    inputSchema: object({ name: string() }, ['name']),
    run: ({ name }) => text(`Hello, ${name}!`),
  },
  slow_compute: {
    description: 'Takes its time.',
    inputSchema: object({ seconds: { type: 'number', minimum: 0 }, label: string() }),
    taskSupport: 'optional',
    run: async ({ seconds = 0, label = '' }, call) => {
      await call.pause(seconds * 1000);
      return text(`computed ${label}`.trim());
    },
  },
  failing_job: {
    description: 'Fails after a while, as a tool does; runs as a task only.',
    inputSchema: object(),
    taskSupport: 'required',
    run: async (_, call) => {
      await call.pause(PAUSE_MS);
      throw new ToolFailure('the job failed');
    },
  },
  protocol_error_job: {
    description: 'Fails after a while, with a protocol error.',
    inputSchema: object(),
    taskSupport: 'optional',
    run: async (_, call) => {
      await call.pause(PAUSE_MS);
      throw new RpcError(INTERNAL_ERROR, 'the job broke', { data: { job: 'protocol_error_job' } });
    },
  },
  confirm_delete: {
    description: 'Asks before it does nothing.',
    inputSchema: object({ filename: string() }, ['filename']),
    taskSupport: 'optional',
    run: async ({ filename }, call) => {
      const { confirm } = await call.ask({
        confirm: elicit(`Delete ${filename}?`, { confirm: { type: 'boolean' } }, ['confirm']),
      });
      const agreed = confirm.action === 'accept' && confirm.content?.confirm === true;
      return text(`${agreed ? 'deleted' : 'kept'} ${filename}`);
    },
  },
  multi_input: {
    description: 'Asks two things at once.',
    inputSchema: object(),
    taskSupport: 'optional',
    run: async (_, call) => {
      const fields = { name: string(), confirm: { type: 'boolean' } };
      const { first, second } = await call.ask({ first: elicit('First?', fields), second: elicit('Second?', fields) });
      return text(`${elicited(first)}; ${elicited(second)}`);
    },
  },
  test_tool_with_task: {
    description: 'Asks for a name, then goes on as a task.',
    inputSchema: object(),
    taskSupport: 'required',
    prepare: async (_, call) => {
      const { user_name: user } = await call.ask({
        user_name: elicit('What is your name?', { name: string() }, ['name']),
      });
      return user.content?.name ?? 'stranger';
    },
    run: async (_, call, name) => {
      await call.pause(PAUSE_MS);
      return text(`Hello, ${name}!`);
    },
  },
};

// The simple one first: the suite's header checks call whatever stands at the head of the list.
const { test_simple_text, ...rest } = plain;
const tools = { test_simple_text, ...rest, ...talking, ...asking, ...tasked };

/**
 * The definitions, in a fixed order; `revision` is what test_trigger_tool_change counts up. Which tools can be
 * tasks, 2025-11-25 alone has a member for.
 */
export function listTools(revision, withTaskSupport) {
  const definitions = Object.entries(tools).map(([name, { run: _run, prepare: _prepare, taskSupport, ...rest }]) => ({
    name,
    ...rest,
    ...(withTaskSupport && taskSupport ? { execution: { taskSupport } } : {}),
  }));
  definitions.push({
    name: 'test_changing_tool',
    description: `Its definition changes when told to. Revision ${revision}.`,
    inputSchema: object(),
  });
  return definitions;
}

export function findTool(name) {
  if (name === 'test_changing_tool') return { inputSchema: object(), run: () => text('unchanged') };
  return Object.hasOwn(tools, name) ? tools[name] : undefined;
}

/** The properties of a tool that are mirrored in headers: [header, path of keys, type]. */
export function headerParameters(schema, path = []) {
  return Object.entries(schema.properties ?? {}).flatMap(([key, property]) => [
    ...(property['x-mcp-header'] ? [[property['x-mcp-header'], [...path, key], property.type]] : []),
    ...headerParameters(property, [...path, key]),
  ]);
}
