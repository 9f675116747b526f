import { client as shared } from './generated/client.gen.js';
import { createClient as create, createConfig, type Client, type Config } from './generated/client/index.js';
import { ConnectionError, HookswitchError } from './error.js';
import { defaultRetry, isSearch, retrying, type RetryPolicy } from './retry.js';

export type { Client };

/** A person's session. It may change while the client is used: its members are read for every request. */
export interface ClientSession {
  /** The `csrf_token` of createSession or getMe, which every change needs. */
  csrfToken?: string | undefined;
  /** The session's cookie as `name=value`, for programs outside a browser; a browser sends it by itself. */
  cookie?: string | undefined;
}

export interface ClientOptions {
  /** Where the server is: `https://pbx.example.com`. In a page that the server itself has served, leave it out. */
  baseUrl?: string;
  /** An API key (`sk_…`) or a token, or a function that gives the present one. */
  apiKey?: string | (() => string | undefined | Promise<string | undefined>);
  /** Instead of a key, the session of the person at this browser. */
  session?: ClientSession;
  /** How requests are repeated; `false` for never. */
  retry?: Partial<RetryPolicy> | false;
  /** How long an attempt may take until its answer begins, in milliseconds; 60,000, and 0 for no limit. Uploads get ten times that. */
  timeoutMs?: number;
  /** Headers of every request. */
  headers?: Record<string, string>;
  fetch?: typeof globalThis.fetch;
}

/**
 * Makes a client, which is passed to every operation:
 *
 *     const client = createClient({ baseUrl: 'https://pbx.example.com', apiKey: process.env.HOOKSWITCH_API_KEY });
 *     const number = await createNumber({ client, body: { number: '+862368925278' } });
 *
 * An operation gives the body of its answer. It throws a {@link HookswitchError} for an answer of 400 or more, a
 * {@link ConnectionError} when there was none, and the signal's reason when it was aborted.
 */
export function createClient(options: ClientOptions = {}): Client {
  return equip(create(createConfig()), options);
}

/** Sets up the client of the operations that are called without one: for a program that has only one. */
export function configure(options: ClientOptions): Client {
  for (const kind of [shared.interceptors.request, shared.interceptors.error]) {
    kind.clear();
  }
  return equip(shared, options);
}

function equip(client: Client, options: ClientOptions): Client {
  const config: Config = {
    baseUrl: options.baseUrl ?? '',
    headers: options.headers,
    throwOnError: true,
    fetch: fetching(options),
    auth: options.apiKey,
  };
  if (options.session) {
    // Of another origin too: the server's SameSite=Strict cookie decides whether it goes along.
    config.credentials = 'include';
  }
  client.setConfig(config);
  client.interceptors.request.use((request) => prepare(request, options.session));
  client.interceptors.error.use((error, response: Response | undefined, request) => {
    if (response) {
      return new HookswitchError(error, response);
    }
    return request?.signal.aborted ? error : new ConnectionError(request?.url ?? '', error);
  });
  return client;
}

function fetching(options: ClientOptions): typeof globalThis.fetch {
  const policy = options.retry === false ? { ...defaultRetry, attempts: 1 } : { ...defaultRetry, ...options.retry };
  const timeoutMs = options.timeoutMs ?? 60_000;
  const fetch: typeof globalThis.fetch = (input, init) => (options.fetch ?? globalThis.fetch)(input, init);
  const usual = retrying(fetch, policy, timeoutMs);
  const uploads = retrying(fetch, policy, timeoutMs * 10);
  return (input, init) => (input instanceof Request && isUpload(input) ? uploads : usual)(input, init);
}

function isUpload(request: Request): boolean {
  const type = request.headers.get('Content-Type');
  return type !== null && !type.startsWith('application/json');
}

/** Adds what the server wants to a request: a key that makes repeating a POST safe, and a session's token. */
function prepare(request: Request, session: ClientSession | undefined): Request {
  const { headers } = request;
  if (request.method === 'POST' && !headers.has('Idempotency-Key') && !isSearch(request.url)) {
    headers.set('Idempotency-Key', newKey());
  }
  if (session?.cookie) {
    headers.set('Cookie', session.cookie);
  }
  if (session?.csrfToken && request.method !== 'GET' && request.method !== 'HEAD') {
    headers.set('X-CSRF-Token', session.csrfToken);
  }
  return request;
}

/** 128 random bits. Not crypto.randomUUID, which pages served without TLS do not have. */
function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
