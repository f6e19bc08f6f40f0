// What a running tool or prompt can do with its caller: say something, and ask something, in either era.
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import {
  INVALID_PARAMS,
  InputRequired,
  METHOD_NOT_FOUND,
  MISSING_CAPABILITY,
  RpcError,
  ToolFailure,
} from './errors.mjs';
import { TASKS_EXTENSION } from './tasks.mjs';

const LEVELS = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency'];
const STATE_TTL_MS = 10 * 60 * 1000;
const CAPABILITY_OF = {
  'elicitation/create': 'elicitation',
  'sampling/createMessage': 'sampling',
  'roots/list': 'roots',
};

export const isLevel = (level) => LEVELS.includes(level);
export const isAdmitted = (level, least) => LEVELS.indexOf(level) >= LEVELS.indexOf(least);
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

class Call {
  constructor({ server, channel, params, signal, capabilities, logLevel }) {
    Object.assign(this, { server, channel, params, signal, capabilities, logLevel });
  }

  /** Waits, unless the call is cancelled: then it throws. */
  pause(ms) {
    return wait(ms, undefined, { signal: this.signal });
  }

  log(level, data) {
    if (this.logLevel === undefined || !isAdmitted(level, this.logLevel)) return;
    this.#notify('notifications/message', { level, logger: 'reference-server', data });
  }

  progress(progress, total, message) {
    const progressToken = this.params._meta?.progressToken;
    if (progressToken !== undefined)
      this.#notify('notifications/progress', { progressToken, progress, total, message });
  }

  openStream() {
    this.channel.open();
  }

  closeStream() {
    this.channel.close();
  }

  #notify(method, params) {
    if (!this.signal.aborted) this.channel.send({ jsonrpc: '2.0', method, params });
  }

  missingCapabilities(requests) {
    const needed = Object.values(requests).map(({ method }) => CAPABILITY_OF[method]);
    return [...new Set(needed)].filter((capability) => !this.capabilities[capability]);
  }
}

/** A call of a legacy client: what it asks travels as real requests beside the call. */
export class LegacyCall extends Call {
  constructor(fields) {
    super(fields);
    this.session = fields.session;
    this.era = 'legacy';
    this.hasTaskSupport = fields.session.hasTasks;
  }

  /** A client of 2025-11-25 says itself whether a call is to be a task, where the tool leaves it the choice. */
  isForTask({ taskSupport }) {
    const wanted = this.hasTaskSupport && this.params.task !== undefined;
    if (wanted ? taskSupport === undefined : taskSupport === 'required') {
      throw new RpcError(METHOD_NOT_FOUND, `The tool ${wanted ? "can't" : 'must'} be called as a task`);
    }
    return wanted;
  }

  created(task) {
    return { task: task.toLegacy() };
  }

  async ask(requests) {
    const missing = this.missingCapabilities(requests);
    if (missing.length) throw new ToolFailure(`The client can't do: ${missing.join(', ')}`);
    const answers = Object.entries(requests).map(async ([key, { method, params }]) => {
      return [key, await this.session.request(method, params, this.channel, this.signal)];
    });
    return Object.fromEntries(await Promise.all(answers));
  }

  get stateIsValid() {
    return true; // The call never left this process.
  }
}

/** A call of a modern client: what it asks ends the call, and a retry brings the answers. */
export class ModernCall extends Call {
  #answers;

  constructor(fields) {
    super(fields);
    this.subject = fields.subject;
    this.era = 'modern';
    this.hasTaskSupport = false;
    const { inputResponses, requestState } = this.params;
    if (inputResponses !== undefined && !isObject(inputResponses)) {
      throw new RpcError(INVALID_PARAMS, 'inputResponses must be an object');
    }
    const state = requestState === undefined ? undefined : openState(requestState, this.subject);
    this.stateIsValid = state !== undefined;
    this.#answers = { ...state?.answers, ...inputResponses };
  }

  /** With the extension it is the server that decides: here each tool that can be a task is one. */
  isForTask({ taskSupport }) {
    if (taskSupport === 'required') this.requireTasks();
    return taskSupport !== undefined && this.#declaresTasks;
  }

  created(task) {
    return { resultType: 'task', ...task.toModern() };
  }

  requireTasks() {
    if (this.#declaresTasks) return;
    const data = { requiredCapabilities: { extensions: { [TASKS_EXTENSION]: {} } } };
    throw new RpcError(MISSING_CAPABILITY, 'Missing required client capability', { data, status: 400 });
  }

  get #declaresTasks() {
    return this.capabilities.extensions?.[TASKS_EXTENSION] !== undefined;
  }

  ask(requests, { withState = false } = {}) {
    const entries = Object.entries(requests);
    const open = entries.filter(([key]) => !Object.hasOwn(this.#answers, key));
    const asked = withState && !this.stateIsValid ? entries : open;
    if (asked.length) this.#require(Object.fromEntries(asked), withState);
    for (const [key, { method }] of entries) checkAnswer(key, method, this.#answers[key]);
    return this.#answers;
  }

  #require(requests, withState) {
    const missing = this.missingCapabilities(requests);
    if (missing.length) {
      const requiredCapabilities = Object.fromEntries(missing.map((capability) => [capability, {}]));
      const data = { requiredCapabilities };
      throw new RpcError(MISSING_CAPABILITY, 'Missing required client capability', { data, status: 400 });
    }
    throw new InputRequired(requests, withState ? sealState(this.subject, this.#answers) : undefined);
  }
}

function checkAnswer(key, method, answer) {
  const valid =
    isObject(answer) &&
    {
      'elicitation/create': () => ['accept', 'decline', 'cancel'].includes(answer.action),
      'sampling/createMessage': () => answer.content !== undefined,
      'roots/list': () => Array.isArray(answer.roots),
    }[method]();
  if (!valid) throw new RpcError(INVALID_PARAMS, `inputResponses: "${key}" doesn't answer ${method}`);
}

// The request state carries the answers so far. The client could change them: hence the signature.
const stateKey = randomBytes(32);
const sign = (payload) => createHmac('sha256', stateKey).update(payload).digest();

function sealState(subject, answers) {
  const payload = Buffer.from(JSON.stringify({ subject, answers, expires: Date.now() + STATE_TTL_MS }));
  return `${payload.toString('base64url')}.${sign(payload).toString('base64url')}`;
}

function openState(sealed, subject) {
  const refused = new RpcError(INVALID_PARAMS, 'requestState is not valid');
  const parts = typeof sealed === 'string' ? sealed.split('.') : [];
  if (parts.length !== 2) throw refused;
  const [payload, signature] = parts.map((part) => Buffer.from(part, 'base64url'));
  const expected = sign(payload);
  // Base64 has more than one spelling of the same bytes; only the one that was sent is taken.
  const whole = sealed === `${payload.toString('base64url')}.${expected.toString('base64url')}`;
  if (!whole || !timingSafeEqual(signature, expected)) throw refused;
  const state = JSON.parse(payload);
  if (state.subject !== subject || state.expires < Date.now()) throw refused;
  return state;
}
