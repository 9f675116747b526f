/** Why a webhook was not accepted. Answer it with 401. */
export class WebhookError extends Error {
  override readonly name = 'WebhookError';
  readonly code: 'unsigned' | 'timestamp' | 'signature' | 'secret' | 'body';

  constructor(code: WebhookError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

export interface VerifyOptions {
  /** Seconds that the timestamp may lie from this machine's clock; 300. */
  tolerance?: number;
  /** The time, for tests. */
  now?: Date;
}

type Headerlike = Headers | Record<string, string | string[] | undefined>;

/**
 * Checks the signature of a request that Hookswitch has made, a question of a call or an event (Standard Webhooks 1.0),
 * and gives its body as JSON. `body` is the text or the bytes as they came: JSON that was read and written again has
 * another signature. `secrets` are all that are valid: two, while one takes the place of the other. The header
 * `webhook-id` is the same when a request is repeated.
 */
export async function verifyWebhook<T = unknown>(
  body: string | Uint8Array,
  headers: Headerlike,
  secrets: string | readonly string[],
  options: VerifyOptions = {},
): Promise<T> {
  const id = header(headers, 'webhook-id');
  const timestamp = header(headers, 'webhook-timestamp');
  const given = header(headers, 'webhook-signature');
  if (!id || !timestamp || !given) {
    throw new WebhookError('unsigned', 'the webhook-id, webhook-timestamp or webhook-signature header is missing');
  }
  const now = (options.now ?? new Date()).getTime() / 1000;
  if (!/^\d{1,12}$/.test(timestamp) || Math.abs(now - Number(timestamp)) > (options.tolerance ?? 300)) {
    throw new WebhookError('timestamp', 'the webhook-timestamp is too far from now');
  }
  const bytes = typeof body === 'string' ? new TextEncoder().encode(body) : body;
  const content = concat(new TextEncoder().encode(`${id}.${timestamp}.`), bytes);
  const signatures = given
    .split(/\s+/)
    .filter((one) => one.startsWith('v1,'))
    .map((one) => base64(one.slice(3)))
    .filter((one) => one !== undefined);
  let fits = false;
  for (const secret of typeof secrets === 'string' ? [secrets] : secrets) {
    const key = await crypto.subtle.importKey('raw', secretKey(secret), { name: 'HMAC', hash: 'SHA-256' }, false, ['verify']);
    for (const signature of signatures) {
      // It compares in constant time.
      fits = (await crypto.subtle.verify('HMAC', key, signature, content)) || fits;
    }
  }
  if (!fits) {
    throw new WebhookError('signature', 'no webhook-signature fits the body and a secret');
  }
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as T;
  } catch {
    throw new WebhookError('body', 'the body is not JSON');
  }
}

/** A secret is whsec_ and 24 to 64 bytes in base64. */
function secretKey(secret: string): Uint8Array<ArrayBuffer> {
  const key = base64(secret.replace(/^whsec_/, ''));
  if (!key || key.length < 24 || key.length > 64) {
    throw new WebhookError('secret', 'a signing secret is whsec_ and 24 to 64 bytes in base64');
  }
  return key;
}

function header(headers: Headerlike, name: string): string | undefined {
  if (headers instanceof Headers) {
    return headers.get(name) ?? undefined;
  }
  const found = Object.keys(headers).find((key) => key.toLowerCase() === name);
  const value = found === undefined ? undefined : headers[found];
  return Array.isArray(value) ? value.join(' ') : value;
}

function base64(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  } catch {
    return undefined;
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
