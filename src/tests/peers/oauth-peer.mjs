// An authorization server and an MCP server that it protects, for the tests of the gateway as an OAuth
// client. Two origins, so that nothing works by accident of being in one place.
//
//   node oauth-peer.mjs [--registration document|dynamic] [--expires SECONDS] [--transport http|sse]
//
// It says `listening AUTHORIZATION_SERVER MCP_SERVER` and is told what to do over POST /control, a JSON
// object of the members of `script`; GET /control answers what it has seen.

import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

const { values: options } = parseArgs({
  options: {
    registration: { type: 'string', default: 'dynamic' },
    expires: { type: 'string', default: '3600' },
    transport: { type: 'string', default: 'http' },
  },
});

/** What the next requests are answered with. */
const script = {
  expires: Number(options.expires),
  /** `iss` of the authorization response, instead of the right one. */
  iss: null,
  /** The authorization servers that the resource names, instead of the right one. */
  authorizationServers: null,
  /** The token endpoint of the metadata, instead of the right one. */
  tokenEndpoint: null,
  /** Refresh tokens are rejected. */
  rejectsRefresh: false,
  /** Refreshing fails with 500. */
  failsRefresh: false,
  /** Milliseconds that a refresh takes. */
  refreshTakes: 0,
  /** Tokens whose time is over are refused by the resource; all are, if this is set. */
  refusesTokens: false,
  /** The person says no. */
  declines: false,
};

const seen = {
  registrations: [],
  authorizations: [],
  tokens: [],
  refreshes: 0,
  reused: 0,
  revoked: [],
  calls: [],
  refused: 0,
};
const secret = (kind) => `CANARY-${kind}-${randomBytes(12).toString('hex')}`;
const clients = new Map();
const codes = new Map();
const access = new Map();
const refresh = new Map();
let issuer = '';
let resource = '';

const body = async (request) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
};
const json = (response, status, value, headers = {}) => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(value));
};
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

const metadata = () => ({
  issuer,
  authorization_endpoint: `${issuer}/authorize`,
  token_endpoint: script.tokenEndpoint ?? `${issuer}/token`,
  revocation_endpoint: `${issuer}/revoke`,
  ...(options.registration === 'dynamic' && { registration_endpoint: `${issuer}/register` }),
  ...(options.registration === 'document' && { client_id_metadata_document_supported: true }),
  response_types_supported: ['code'],
  code_challenge_methods_supported: ['S256'],
  token_endpoint_auth_methods_supported: ['client_secret_basic', 'none'],
  authorization_response_iss_parameter_supported: true,
});

function authorize(query, response) {
  const asked = Object.fromEntries(query);
  seen.authorizations.push({ ...asked });
  const isDocument = options.registration === 'document' && asked.client_id?.startsWith('https://');
  const known = clients.get(asked.client_id);
  const fits =
    (isDocument || known?.redirect_uris.includes(asked.redirect_uri)) &&
    asked.response_type === 'code' &&
    asked.code_challenge_method === 'S256' &&
    asked.resource === resource;
  if (!fits) return json(response, 400, { error: 'invalid_request', asked });
  const back = new URL(asked.redirect_uri);
  back.searchParams.set('state', asked.state);
  back.searchParams.set('iss', script.iss ?? issuer);
  if (script.declines) {
    back.searchParams.set('error', 'access_denied');
  } else {
    const code = secret('code');
    codes.set(code, asked);
    back.searchParams.set('code', code);
  }
  response.writeHead(302, { location: back.href });
  response.end();
}

/** Whoever was given a secret has to show it. */
function isClient(request, form, id) {
  const known = clients.get(id);
  if (!known?.client_secret) return form.get('client_id') === id;
  const pair = Buffer.from((request.headers.authorization ?? '').slice('Basic '.length), 'base64').toString();
  return pair === `${id}:${known.client_secret}`;
}

function issue(response, grant) {
  const tokens = { access_token: secret('access'), refresh_token: secret('refresh') };
  access.set(tokens.access_token, { ...grant, ends: Date.now() + script.expires * 1000 });
  refresh.set(tokens.refresh_token, grant);
  json(response, 200, { ...tokens, token_type: 'Bearer', expires_in: script.expires, scope: grant.scope });
}

async function token(request, response) {
  const form = new URLSearchParams(await body(request));
  seen.tokens.push({ grant: form.get('grant_type'), resource: form.get('resource') });
  const refuse = (error) => json(response, 400, { error });
  if (form.get('resource') !== resource) return refuse('invalid_target');
  if (form.get('grant_type') === 'authorization_code') {
    const asked = codes.get(form.get('code'));
    codes.delete(form.get('code'));
    if (!asked || asked.redirect_uri !== form.get('redirect_uri')) return refuse('invalid_grant');
    const challenge = createHash('sha256')
      .update(form.get('code_verifier') ?? '')
      .digest('base64url');
    if (challenge !== asked.code_challenge) return refuse('invalid_grant');
    if (!isClient(request, form, asked.client_id)) return json(response, 401, { error: 'invalid_client' });
    return issue(response, { client: asked.client_id, scope: asked.scope ?? '' });
  }
  seen.refreshes += 1;
  await pause(script.refreshTakes);
  if (script.failsRefresh) return json(response, 500, {});
  const grant = refresh.get(form.get('refresh_token'));
  // One that is used twice is one that was stolen.
  if (!grant) seen.reused += 1;
  if (!grant || script.rejectsRefresh) return refuse('invalid_grant');
  if (!isClient(request, form, grant.client)) return json(response, 401, { error: 'invalid_client' });
  refresh.delete(form.get('refresh_token'));
  issue(response, grant);
}

const authorizationServer = createServer(async (request, response) => {
  const url = new URL(request.url, issuer);
  switch (`${request.method} ${url.pathname}`) {
    case 'GET /.well-known/oauth-authorization-server':
      return json(response, 200, metadata());
    case 'GET /authorize':
      return authorize(url.searchParams, response);
    case 'POST /register': {
      const asked = JSON.parse(await body(request));
      seen.registrations.push(asked);
      const client = { ...asked, client_id: `client-${clients.size}`, client_secret: secret('client') };
      clients.set(client.client_id, client);
      return json(response, 201, client);
    }
    case 'POST /token':
      return token(request, response);
    case 'POST /revoke': {
      const form = new URLSearchParams(await body(request));
      seen.revoked.push(form.get('token_type_hint'));
      refresh.delete(form.get('token'));
      return json(response, 200, {});
    }
    case 'POST /control': {
      const { forgetAccess, ...rest } = JSON.parse(await body(request));
      // As if the time of all access tokens were over.
      if (forgetAccess) access.clear();
      Object.assign(script, rest);
      return json(response, 200, script);
    }
    case 'GET /control':
      return json(response, 200, seen);
    default:
      return json(response, 404, {});
  }
});

const TOOLS = ['read', 'write'].map((name) => ({ name, inputSchema: { type: 'object' } }));

/** What the protected server answers to a message; nothing to a notification. */
function answer(message) {
  const { id, method, params } = message;
  if (id === undefined) return undefined;
  const result = (value) => ({ jsonrpc: '2.0', id, result: value });
  switch (method) {
    case 'initialize':
      return result({
        protocolVersion: params.protocolVersion,
        capabilities: { tools: {} },
        serverInfo: { name: 'protected', version: '1' },
      });
    case 'ping':
      return result({});
    case 'tools/list':
      return result({ tools: TOOLS });
    case 'tools/call':
      return result({ content: [{ type: 'text', text: `did ${params.name}` }] });
    default:
      return { jsonrpc: '2.0', id, error: { code: -32601, message: 'unknown method' } };
  }
}

/** Says no, if the token isn't good enough for the message. */
function refuses(request, response, message) {
  const metadataUrl = `${new URL(resource).origin}/.well-known/oauth-protected-resource/mcp`;
  const challenge = (status, more) => {
    seen.refused += 1;
    const text = `Bearer resource_metadata="${metadataUrl}"${more}`;
    json(response, status, {}, { 'www-authenticate': text });
    return true;
  };
  const shown = (request.headers.authorization ?? '').replace(/^Bearer /, '');
  const grant = access.get(shown);
  if (!grant || grant.ends <= Date.now() || script.refusesTokens) return challenge(401, ', scope="read"');
  const wanted = message?.method === 'tools/call' && message.params.name === 'write' ? 'write' : 'read';
  if (!grant.scope.split(' ').includes(wanted)) {
    return challenge(403, `, error="insufficient_scope", scope="${wanted}"`);
  }
  return false;
}

const streams = []; // One for each client, which is told to post to it by its number.
const mcpServer = createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, resource);
  if (pathname === '/.well-known/oauth-protected-resource/mcp') {
    const servers = script.authorizationServers ?? [issuer];
    return json(response, 200, { resource, authorization_servers: servers, scopes_supported: ['read', 'write'] });
  }
  if (pathname === '/mcp' && request.method === 'GET' && options.transport === 'sse') {
    if (refuses(request, response)) return;
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(`event: endpoint\ndata: /mcp?stream=${streams.push(response) - 1}\n\n`);
    return;
  }
  if (pathname !== '/mcp' || request.method !== 'POST') return json(response, 405, {});
  const message = JSON.parse(await body(request));
  if (refuses(request, response, message)) return;
  if (message.method === 'tools/call') seen.calls.push(request.headers.authorization);
  const said = answer(message);
  if (options.transport === 'sse') {
    response.writeHead(202).end();
    if (said) streams[searchParams.get('stream')]?.write(`data: ${JSON.stringify(said)}\n\n`);
  } else if (said) {
    json(response, 200, said);
  } else {
    response.writeHead(202).end();
  }
});

const listening = (server) =>
  new Promise((done) => server.listen(0, '127.0.0.1', () => done(`http://127.0.0.1:${server.address().port}`)));
issuer = await listening(authorizationServer);
resource = `${await listening(mcpServer)}/mcp`;
console.log(`listening ${issuer} ${resource}`);
