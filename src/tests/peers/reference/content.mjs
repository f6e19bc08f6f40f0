// The prompts, resources, templates and completions of the reference server.
import { INVALID_PARAMS, RpcError } from './errors.mjs';
import { APP, PNG, clock, elicit } from './tools.mjs';

const user = (content) => ({ role: 'user', content });
const words = (text) => user({ type: 'text', text });

const prompts = {
  test_simple_prompt: {
    description: 'A prompt without arguments.',
    get: () => [words('This is a simple prompt for testing.')],
  },
  test_prompt_with_arguments: {
    description: 'A prompt with two arguments.',
    arguments: [
      { name: 'arg1', description: 'First test argument', required: true },
      { name: 'arg2', description: 'Second test argument', required: true },
    ],
    get: ({ arg1, arg2 }) => [words(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)],
  },
  test_prompt_with_embedded_resource: {
    description: 'A prompt that embeds a resource.',
    arguments: [{ name: 'resourceUri', description: 'URI of the resource to embed', required: true }],
    get: ({ resourceUri }) => [
      user({
        type: 'resource',
        resource: { uri: resourceUri, mimeType: 'text/plain', text: 'Embedded resource content for testing.' },
      }),
      words('Please process the embedded resource above.'),
    ],
  },
  test_prompt_with_image: {
    description: 'A prompt with an image.',
    get: () => [user({ type: 'image', data: PNG, mimeType: 'image/png' }), words('Please analyze the image above.')],
  },
  test_input_required_result_prompt: {
    description: 'A prompt that asks the user first.',
    get: async (_, call) => {
      const request = elicit('What context should the prompt use?', { context: { type: 'string' } }, ['context']);
      const { user_context: answer } = await call.ask({ user_context: request });
      return [words(`Use this context: ${answer.content?.context ?? 'none'}`)];
    },
  },
};

export function listPrompts(revision) {
  const definitions = Object.entries(prompts).map(([name, { get: _get, ...definition }]) => ({ name, ...definition }));
  definitions.push({
    name: 'test_changing_prompt',
    description: `Its definition changes when told to. Revision ${revision}.`,
  });
  return definitions;
}

export async function getPrompt(name, args, call) {
  if (name === 'test_changing_prompt') return { messages: [words('unchanged')] };
  if (!Object.hasOwn(prompts, name)) throw new RpcError(INVALID_PARAMS, `Unknown prompt: ${name}`);
  const prompt = prompts[name];
  const missing = (prompt.arguments ?? []).filter((argument) => argument.required && !(argument.name in args));
  if (missing.length) {
    throw new RpcError(INVALID_PARAMS, `Missing arguments: ${missing.map(({ name }) => name).join(', ')}`);
  }
  return { description: prompt.description, messages: await prompt.get(args, call) };
}

export const WATCHED = 'test://watched-resource';

const resources = {
  'test://static-text': {
    name: 'static-text',
    description: 'A text that never changes.',
    mimeType: 'text/plain',
    read: () => ({ text: 'This is the content of the static text resource.' }),
  },
  'test://static-binary': {
    name: 'static-binary',
    description: 'An image that never changes.',
    mimeType: 'image/png',
    read: () => ({ blob: PNG }),
  },
  [WATCHED]: {
    name: 'watched-resource',
    description: 'A text that changes when told to.',
    mimeType: 'text/plain',
    read: ({ watched }) => ({ text: `Revision ${watched}.` }),
  },
  [APP]: {
    name: 'clock',
    description: 'The page of test_app.',
    mimeType: 'text/html;profile=mcp-app',
    read: () => ({
      text: `<!doctype html><title>Clock</title><p>${clock()}</p>`,
      _meta: { ui: { csp: { connectDomains: ['https://time.example.com'] } } },
    }),
  },
  'test://example-resource': {
    name: 'example-resource',
    description: 'What the prompt with an embedded resource embeds.',
    mimeType: 'text/plain',
    read: () => ({ text: 'An example.' }),
  },
};

export const listResources = () =>
  Object.entries(resources).map(([uri, { read: _read, ...definition }]) => ({ uri, ...definition }));

export const listTemplates = () => [
  {
    uriTemplate: 'test://template/{id}/data',
    name: 'template-data',
    description: 'Data for an id.',
    mimeType: 'application/json',
  },
];

/** The contents of a resource, or undefined where there is none. */
export function readResource(uri, revisions) {
  if (Object.hasOwn(resources, uri)) {
    const { mimeType, read } = resources[uri];
    return { contents: [{ uri, mimeType, ...read(revisions) }] };
  }
  const id = /^test:\/\/template\/([^/]+)\/data$/.exec(uri)?.[1];
  if (id === undefined) return undefined;
  const data = JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` });
  return { contents: [{ uri, mimeType: 'application/json', text: data }] };
}

const SUGGESTIONS = ['paris', 'park', 'party', 'hello', 'world', '123', '456'];

export function complete({ ref, argument }) {
  const known =
    (ref?.type === 'ref/prompt' && Object.hasOwn(prompts, ref.name)) ||
    (ref?.type === 'ref/resource' && listTemplates().some((template) => template.uriTemplate === ref.uri));
  if (!known) throw new RpcError(INVALID_PARAMS, 'Unknown reference');
  const values = SUGGESTIONS.filter((suggestion) => suggestion.startsWith(argument?.value ?? ''));
  return { completion: { values, total: values.length, hasMore: false } };
}
