// Tasks: work that outlives its call, as 2025-11-25 has them and as the extension of 2026-07-28 has them.
//
// The two forms share the work and nothing on the wire. Tasks are bound to no client: whoever knows an id
// may use it, and a list shows everybody's. So it is up to a gateway in front to keep its clients apart.
import { setTimeout as wait } from 'node:timers/promises';
import { INTERNAL_ERROR, INVALID_PARAMS, RpcError, ToolFailure } from './errors.mjs';

export const TASKS_EXTENSION = 'io.modelcontextprotocol/tasks';
export const RELATED_TASK = 'io.modelcontextprotocol/related-task';
export const TASK_METHODS = ['tasks/get', 'tasks/update', 'tasks/cancel'];
const POLL_MS = 100;
const TTL_MS = 10 * 60 * 1000;

/** The tasks of one server, in the order they were made. `changed` hears of each change of a task. */
export class Tasks {
  #tasks = new Map();
  #changed;

  constructor(changed) {
    this.#changed = changed;
  }

  /** Starts `work(call)` as a task; what it returns or throws is the task's outcome. */
  start(era, origin, ttl, work) {
    const id = `task-${this.#tasks.size + 1}`; // The same on each server: ids are unique within one only.
    const task = new Task({ id, era, origin, ttl: ttl ?? TTL_MS, changed: this.#changed });
    this.#tasks.set(id, task);
    setTimeout(() => this.#tasks.delete(id), task.ttl).unref();
    task.run(work);
    return task;
  }

  get(era, id) {
    const task = this.#tasks.get(id);
    if (task?.era !== era) throw new RpcError(INVALID_PARAMS, 'Task not found');
    return task;
  }

  has(era, id) {
    return this.#tasks.get(id)?.era === era;
  }

  list(era) {
    return [...this.#tasks.values()].filter((task) => task.era === era);
  }
}

class Task {
  #changed;
  #cancelled = new AbortController();
  #pending = new Map();
  #answers = {};
  #answered = () => {};
  #watchers = [];

  constructor({ id, era, origin, ttl, changed }) {
    Object.assign(this, { id, era, origin, ttl, status: 'working' });
    this.#changed = changed;
    this.createdAt = new Date().toISOString();
    this.lastUpdatedAt = this.createdAt;
  }

  get isOver() {
    return ['completed', 'failed', 'cancelled'].includes(this.status);
  }

  get pending() {
    return Object.fromEntries(this.#pending);
  }

  async run(work) {
    try {
      this.result = await work(new TaskCall(this, this.#cancelled.signal));
      this.#move('completed');
    } catch (error) {
      if (this.isOver) return;
      this.error = (error instanceof RpcError ? error : new RpcError(INTERNAL_ERROR, error.message)).toJson();
      this.#move('failed', error.message);
    }
  }

  cancel() {
    this.#move('cancelled', 'The task was cancelled by request.');
    this.#cancelled.abort();
  }

  /** Waits for the answers to all of `requests`. */
  ask(requests) {
    this.#pending = new Map(Object.entries(requests));
    this.#answers = {};
    this.#move('input_required');
    return new Promise((resolve, reject) => {
      this.#answered = resolve;
      this.#cancelled.signal.addEventListener('abort', () => reject(new ToolFailure('cancelled')), { once: true });
    });
  }

  /** Takes the answers that are waited for, and no others. */
  answer(responses) {
    for (const [key, response] of Object.entries(responses)) {
      if (this.#pending.delete(key)) this.#answers[key] = response;
    }
    if (this.status !== 'input_required' || this.#pending.size) return;
    this.#move('working');
    this.#answered(this.#answers);
  }

  /** Resolves at the next change, or when `signal` says that nobody waits any more. */
  nextChange(signal) {
    return new Promise((resolve) => {
      this.#watchers.push(resolve);
      signal.addEventListener('abort', resolve, { once: true });
    });
  }

  #move(status, statusMessage) {
    if (this.isOver) return;
    Object.assign(this, { status, statusMessage, lastUpdatedAt: new Date().toISOString() });
    this.#watchers.splice(0).forEach((resolve) => resolve());
    this.#changed(this);
  }

  #common() {
    const { id: taskId, status, statusMessage, createdAt, lastUpdatedAt } = this;
    return { taskId, status, ...(statusMessage ? { statusMessage } : {}), createdAt, lastUpdatedAt };
  }

  toLegacy() {
    return { ...this.#common(), ttl: this.ttl, pollInterval: POLL_MS };
  }

  toModern() {
    return { ...this.#common(), ttlMs: this.ttl, pollIntervalMs: POLL_MS };
  }

  /** With what its status has to show. */
  toDetailed() {
    const details = {
      input_required: { inputRequests: this.pending },
      completed: { result: this.result },
      failed: { error: this.error },
    };
    return { ...this.toModern(), ...details[this.status] };
  }
}

/** What a running task can do with its client: ask it something. */
class TaskCall {
  #task;

  constructor(task, signal) {
    this.#task = task;
    this.signal = signal;
    this.server = task.origin.server;
    this.capabilities = task.origin.capabilities;
  }

  ask(requests) {
    return this.#task.ask(requests);
  }

  pause(ms) {
    return wait(ms, undefined, { signal: this.signal });
  }

  log() {}

  progress() {}
}

/** The methods of the extension; the client has declared it. */
export function answerModern(tasks, method, params) {
  const task = tasks.get('modern', params.taskId);
  if (method === 'tasks/get') return task.toDetailed();
  if (method === 'tasks/cancel') task.cancel();
  else task.answer(params.inputResponses ?? {});
  return {};
}

/** The methods of 2025-11-25; undefined if this is none. */
export function answerLegacy(server, method, params, call) {
  const find = () => server.tasks.get('legacy', params.taskId);
  switch (method) {
    case 'tasks/get':
      return find().toLegacy();
    case 'tasks/list':
      return server.list(
        'tasks',
        server.tasks.list('legacy').map((task) => task.toLegacy()),
        params.cursor,
      );
    case 'tasks/cancel': {
      const task = find();
      if (task.isOver) throw new RpcError(INVALID_PARAMS, `The task is ${task.status} already`);
      task.cancel();
      return task.toLegacy();
    }
    case 'tasks/result':
      return outcome(find(), call);
    default:
      return undefined;
  }
}

/** Blocks until the task is over; what it asks meanwhile goes out beside this request. */
async function outcome(task, { session, channel, signal }) {
  const _meta = { [RELATED_TASK]: { taskId: task.id } };
  const asked = new Set();
  while (!task.isOver && !signal.aborted) {
    const open = Object.entries(task.pending).filter(([key]) => !asked.has(key));
    for (const [key, { method, params }] of open) {
      asked.add(key);
      const answer = session.request(method, { ...params, _meta }, channel, signal);
      answer.then((response) => task.answer({ [key]: response })).catch(() => {});
    }
    await task.nextChange(signal);
  }
  if (task.error) throw Object.assign(new RpcError(task.error.code, task.error.message), { data: task.error.data });
  if (task.status === 'cancelled') throw new RpcError(INVALID_PARAMS, 'The task was cancelled');
  return { ...task.result, _meta: { ...task.result?._meta, ..._meta } };
}
