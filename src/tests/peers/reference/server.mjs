// The reference server without a transport: one message in, one answer out, in both eras.
import { randomUUID } from 'node:crypto';
import { LegacyCall, ModernCall, isAdmitted, isLevel } from './call.mjs';
import * as content from './content.mjs';
import {
  INTERNAL_ERROR,
  INVALID_PARAMS,
  InputRequired,
  METHOD_NOT_FOUND,
  RESOURCE_NOT_FOUND_LEGACY,
  RpcError,
  ToolFailure,
  UNSUPPORTED_VERSION,
} from './errors.mjs';
import { TASKS_EXTENSION, TASK_METHODS, Tasks, answerLegacy, answerModern } from './tasks.mjs';
import { findTool, listTools } from './tools.mjs';

export const LEGACY_VERSIONS = ['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05'];
export const MODERN_VERSIONS = ['2026-07-28'];
export const META = 'io.modelcontextprotocol/';
const SERVER_INFO = { name: 'reference-server', version: '1.0.0' };
const CAPABILITIES = {
  tools: { listChanged: true },
  prompts: { listChanged: true },
  resources: { listChanged: true, subscribe: true },
  completions: {},
  logging: {},
};
const MODERN_CAPABILITIES = { ...CAPABILITIES, extensions: { [TASKS_EXTENSION]: {} } };
const TASKS_CAPABILITY = { list: {}, cancel: {}, requests: { tools: { call: {} } } };
const LIST_TTL_MS = 60_000;

/** The extension of those who can show what a tool does. */
const APPS = 'io.modelcontextprotocol/ui';

/** The revision that something of ours came with; what isn't here, all have. */
const SINCE = { test_elicitation: '2025-06-18' };

/**
 * What all sessions and calls share. `eras` holds 'legacy', 'modern' or both; with a `revision`, of that era,
 * nothing else is spoken. `tools` are the names to offer, where that isn't all.
 */
export class ReferenceServer {
  #cancellations = new Set(); // Who waits for more of them.

  constructor({ eras, pageSize, revision, tools }) {
    this.eras = eras;
    this.pageSize = pageSize;
    this.revision = revision;
    this.tools = tools && new Set(tools);
    const all = [...(eras.has('modern') ? MODERN_VERSIONS : []), ...(eras.has('legacy') ? LEGACY_VERSIONS : [])];
    this.versions = revision ? [revision] : all;
    this.revisions = { tools: 1, prompts: 1, watched: 1 };
    this.counters = { calls: 0, cancelled: 0, sessions: 0, subscribes: 0, unsubscribes: 0, listens: 0 };
    this.sessions = new Set();
    this.listens = new Set();
    this.tasks = new Tasks((task) => this.#publishTask(task));
  }

  offers(tool) {
    const isOfRevision = !this.revision || this.revision >= (SINCE[tool] ?? '');
    return isOfRevision && (!this.tools || this.tools.has(tool));
  }

  /** Resolves when that many calls have been cancelled in all. */
  cancelled(count) {
    if (this.counters.cancelled >= count) return Promise.resolve();
    return new Promise((resolve) => this.#cancellations.add({ count, resolve }));
  }

  #countCancelled() {
    this.counters.cancelled += 1;
    for (const waiting of this.#cancellations) {
      if (waiting.count > this.counters.cancelled) continue;
      this.#cancellations.delete(waiting);
      waiting.resolve();
    }
  }

  changeTools() {
    this.revisions.tools += 1;
    this.#publish('notifications/tools/list_changed', {}, ({ toolsListChanged }) => toolsListChanged);
    return this.revisions.tools;
  }

  changePrompts() {
    this.revisions.prompts += 1;
    this.#publish('notifications/prompts/list_changed', {}, ({ promptsListChanged }) => promptsListChanged);
    return this.revisions.prompts;
  }

  changeWatched() {
    const uri = content.WATCHED;
    this.revisions.watched += 1;
    this.#publish('notifications/resources/updated', { uri }, (filter) => filter.resourceSubscriptions?.includes(uri));
    return this.revisions.watched;
  }

  /** Says something to all sessions of the legacy era; the modern one has nothing of the kind. */
  logOutside(level) {
    const params = { level, logger: 'reference-server', data: `said at ${level}` };
    for (const session of this.sessions) {
      if (session.version && isAdmitted(level, session.logLevel)) session.notify('notifications/message', params);
    }
  }

  #publish(method, params, isWanted) {
    for (const session of this.sessions) {
      if (!session.version) continue; // Not initialized yet.
      if (!params.uri || session.subscriptions.has(params.uri)) session.notify(method, params);
    }
    for (const listen of this.listens) {
      if (isWanted(listen.filter)) listen.notify(method, params);
    }
  }

  /** A legacy task is told of in the session that made it, one of the extension to those who ask for it. */
  #publishTask(task) {
    if (task.era === 'legacy') return task.origin.session.notify('notifications/tasks/status', task.toLegacy());
    for (const listen of this.listens) {
      if (listen.filter.taskIds?.includes(task.id)) listen.notify('notifications/tasks', task.toDetailed());
    }
    return undefined;
  }

  /** Ends what would stay open for ever: the listens, each with its result. */
  close() {
    for (const listen of this.listens) listen.end();
  }

  list(key, items, cursor) {
    const start = cursor === undefined ? 0 : Number(cursor);
    if (!Number.isInteger(start) || start < 0 || start > items.length) {
      throw new RpcError(INVALID_PARAMS, 'Unknown cursor');
    }
    const end = start + this.pageSize;
    return { [key]: items.slice(start, end), ...(end < items.length ? { nextCursor: String(end) } : {}) };
  }

  /** The methods that both eras share. */
  async answer(method, params, call, notFoundCode) {
    switch (method) {
      case 'tools/list':
        return this.list('tools', this.#tools(call), params.cursor);
      case 'prompts/list':
        return this.list('prompts', this.tools ? [] : content.listPrompts(this.revisions.prompts), params.cursor);
      case 'resources/list':
        return this.list('resources', this.#resources(), params.cursor);
      case 'resources/templates/list':
        return this.list('resourceTemplates', this.tools ? [] : content.listTemplates(), params.cursor);
      case 'tools/call':
        return this.#callTool(params, call);
      case 'prompts/get':
        return content.getPrompt(params.name, params.arguments ?? {}, call);
      case 'completion/complete':
        return content.complete(params);
      case 'resources/read': {
        const found = content.readResource(params.uri, this.revisions);
        if (!found) throw new RpcError(notFoundCode, 'Resource not found', { data: { uri: params.uri } });
        return found;
      }
      default:
        throw new RpcError(METHOD_NOT_FOUND, `Method not found: ${method}`, { status: 404 });
    }
  }

  #tools({ capabilities, hasTaskSupport }) {
    const showsApps = capabilities.extensions?.[APPS] !== undefined;
    const isOffered = ({ name, _meta }) => this.offers(name) && (showsApps || !_meta?.ui);
    return listTools(this.revisions.tools, hasTaskSupport).filter(isOffered);
  }

  #resources() {
    const changes = this.offers('test_update_watched_resource');
    return content.listResources().filter(({ uri }) => !this.tools || (changes && uri === content.WATCHED));
  }

  async #callTool({ name, arguments: args = {}, task: wish }, call) {
    const tool = this.offers(name) ? findTool(name) : undefined;
    if (!tool) throw new RpcError(INVALID_PARAMS, `Unknown tool: ${name}`);
    this.counters.calls += 1;
    if (!call.isForTask(tool)) return this.#run(tool, args, call);
    // What has to be asked first is asked before there is a task.
    const prepared = await tool.prepare?.(args, call);
    const work = (taskCall) => this.#run(tool, args, taskCall, prepared);
    return call.created(this.tasks.start(call.era, call, wish?.ttl, work));
  }

  async #run(tool, args, call, prepared) {
    const missing = (tool.inputSchema.required ?? []).filter((key) => !(key in args));
    try {
      if (missing.length) throw new ToolFailure(`Missing arguments: ${missing.join(', ')}`);
      return await tool.run(args, call, prepared);
    } catch (error) {
      if (call.signal.aborted) this.#countCancelled();
      if (!(error instanceof ToolFailure)) throw error;
      return { isError: true, content: [{ type: 'text', text: error.message }] };
    }
  }
}

/** Runs `work` and makes a response of whatever it returns or throws. */
async function respond(id, work) {
  try {
    return { response: { jsonrpc: '2.0', id, result: await work() }, status: 200 };
  } catch (error) {
    const known = error instanceof RpcError ? error : new RpcError(INTERNAL_ERROR, error.message);
    return { response: { jsonrpc: '2.0', id, error: known.toJson() }, status: known.status ?? 200 };
  }
}

/** One session of the legacy era. `notify` sends what belongs to no call. */
export class LegacySession {
  #pending = new Map();
  #inFlight = new Map();
  #asked = 0;

  constructor(server, notify) {
    this.id = randomUUID();
    this.server = server;
    this.subscriptions = new Set();
    this.capabilities = {};
    this.logLevel = 'info';
    this.notify = (method, params) => notify({ jsonrpc: '2.0', method, params });
    server.sessions.add(this);
    server.counters.sessions += 1;
  }

  end() {
    this.server.sessions.delete(this);
    for (const running of this.#inFlight.values()) running.abort();
  }

  /** A request to the client, on the stream of the call it belongs to. */
  request(method, params, channel, signal) {
    const id = `ask-${++this.#asked}`;
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      this.#pending.set(id, { resolve, reject });
      channel.send({ jsonrpc: '2.0', id, method, params });
    }).finally(() => this.#pending.delete(id));
  }

  /** What the client sends without awaiting an answer: notifications, and answers to our requests. */
  receive(message) {
    if (message.method === 'notifications/cancelled') this.#inFlight.get(message.params?.requestId)?.abort();
    if (message.method !== undefined) return;
    const pending = this.#pending.get(message.id);
    if (message.error) pending?.reject(new ToolFailure(`The client answered: ${message.error.message}`));
    else pending?.resolve(message.result);
  }

  /** Answers a request. Undefined where it was cancelled: then there must be no answer. */
  async handle({ id, method, params = {} }, channel) {
    const running = new AbortController();
    this.#inFlight.set(id, running);
    const { server, capabilities, logLevel } = this;
    const fields = { server, channel, params, signal: running.signal, capabilities, logLevel, session: this };
    const { response } = await respond(id, () => this.#answer(method, params, new LegacyCall(fields)));
    this.#inFlight.delete(id);
    return running.signal.aborted ? undefined : response;
  }

  #answer(method, params, call) {
    switch (method) {
      case 'initialize':
        return this.#initialize(params);
      case 'ping':
        return {};
      case 'logging/setLevel':
        if (!isLevel(params.level)) throw new RpcError(INVALID_PARAMS, 'Unknown level');
        this.logLevel = params.level;
        return {};
      case 'resources/subscribe':
        this.server.counters.subscribes += 1;
        this.subscriptions.add(params.uri);
        return {};
      case 'resources/unsubscribe':
        this.server.counters.unsubscribes += 1;
        this.subscriptions.delete(params.uri);
        return {};
      default: {
        const ofTask = this.hasTasks ? answerLegacy(this.server, method, params, call) : undefined;
        return ofTask ?? this.server.answer(method, params, call, RESOURCE_NOT_FOUND_LEGACY);
      }
    }
  }

  /** Tasks came with 2025-11-25. */
  get hasTasks() {
    return this.version === '2025-11-25';
  }

  #initialize({ protocolVersion, capabilities = {} }) {
    const [newest] = this.server.versions.filter((version) => LEGACY_VERSIONS.includes(version));
    this.version = this.server.versions.includes(protocolVersion) ? protocolVersion : newest;
    this.capabilities = capabilities;
    const offered = this.hasTasks ? { ...CAPABILITIES, tasks: TASKS_CAPABILITY } : CAPABILITIES;
    return { protocolVersion: this.version, capabilities: offered, serverInfo: SERVER_INFO };
  }
}

const CACHEABLE = ['tools/list', 'prompts/list', 'resources/list', 'resources/templates/list', 'resources/read'];

/** Answers a request of the modern era, whose headers (if it had any) were checked. */
export async function handleModern(server, { id, method, params = {} }, channel, signal) {
  return respond(id, async () => {
    const meta = checkMeta(server, params);
    const fields = {
      server,
      channel,
      params,
      signal,
      capabilities: meta[`${META}clientCapabilities`],
      logLevel: meta[`${META}logLevel`],
      subject: `${method} ${params.name ?? ''} ${JSON.stringify(params.arguments ?? {})}`,
    };
    const result = await modernResult(server, method, params, id, new ModernCall(fields));
    const named = { [`${META}serverInfo`]: SERVER_INFO, ...result._meta };
    return { resultType: 'complete', ...result, _meta: named };
  });
}

async function modernResult(server, method, params, id, call) {
  try {
    if (method === 'server/discover') {
      const hints = { ttlMs: LIST_TTL_MS, cacheScope: 'public' };
      return { supportedVersions: server.versions, capabilities: MODERN_CAPABILITIES, ...hints };
    }
    if (method === 'subscriptions/listen') return await listen(server, params, id, call);
    if (TASK_METHODS.includes(method)) {
      call.requireTasks();
      return answerModern(server.tasks, method, params);
    }
    const result = await server.answer(method, params, call, INVALID_PARAMS);
    return CACHEABLE.includes(method) ? { ...result, ttlMs: LIST_TTL_MS, cacheScope: 'public' } : result;
  } catch (error) {
    if (error instanceof InputRequired) return error.result;
    throw error;
  }
}

function checkMeta(server, { _meta: meta }) {
  const version = meta?.[`${META}protocolVersion`];
  const capabilities = meta?.[`${META}clientCapabilities`];
  const level = meta?.[`${META}logLevel`];
  const bad = (message) => new RpcError(INVALID_PARAMS, message, { status: 400 });
  if (typeof version !== 'string') throw bad(`_meta lacks ${META}protocolVersion`);
  if (!MODERN_VERSIONS.includes(version)) {
    const data = { supported: server.versions, requested: version };
    throw new RpcError(UNSUPPORTED_VERSION, 'Unsupported protocol version', { data, status: 400 });
  }
  if (typeof capabilities !== 'object' || capabilities === null) throw bad(`_meta lacks ${META}clientCapabilities`);
  if (level !== undefined && !isLevel(level)) throw bad(`${META}logLevel is not a level`);
  return meta;
}

/** Sends what the filter asks for, until the client or the server ends it. */
function listen(server, { notifications: filter = {} }, id, call) {
  const { channel, signal } = call;
  if (filter.taskIds) call.requireTasks();
  const tag = { [`${META}subscriptionId`]: id };
  const notify = (method, params) => channel.send({ jsonrpc: '2.0', method, params: { ...params, _meta: tag } });
  const known = ['toolsListChanged', 'promptsListChanged', 'resourcesListChanged', 'resourceSubscriptions'];
  const honoured = Object.fromEntries(Object.entries(filter).filter(([key]) => known.includes(key)));
  if (filter.taskIds) honoured.taskIds = filter.taskIds.filter((taskId) => server.tasks.has('modern', taskId));
  server.counters.listens += 1;
  notify('notifications/subscriptions/acknowledged', { notifications: honoured });
  const listener = { filter: honoured, notify };
  server.listens.add(listener);
  return new Promise((resolve) => {
    listener.end = () => resolve({ _meta: tag });
    signal.addEventListener('abort', listener.end, { once: true });
    if (signal.aborted) listener.end();
  }).finally(() => server.listens.delete(listener));
}
