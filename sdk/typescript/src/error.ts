/** One field or parameter that was not accepted. */
export interface FieldError {
  /** A JSON pointer into the body (RFC 6901), or the name of a parameter. */
  pointer: string;
  code: string;
  message: string;
}

/**
 * An answer of 400 or more. The server's are RFC 9457 problems; of an answer by something in between, such as a proxy,
 * `type` is `about:blank` and `detail` is what it said.
 */
export class HookswitchError extends Error {
  override readonly name = 'HookswitchError';
  /** HTTP status. */
  readonly status: number;
  /** What kind of problem, as a stable URL; see {@link code}. */
  readonly type: string;
  readonly title: string;
  /** A sentence that says what to do. */
  readonly detail: string;
  /** What exactly was not accepted; empty when it concerns the whole. */
  readonly errors: readonly FieldError[];
  /** The id of the request, for support. */
  readonly requestId: string | undefined;
  /** Seconds after which to try again, where the server says so. */
  readonly retryAfter: number | undefined;

  constructor(body: unknown, response: Response) {
    const problem = isObject(body) ? body : {};
    const title = text(problem['title']) ?? response.statusText;
    const detail = text(problem['detail']) ?? (typeof body === 'string' ? body.slice(0, 500) : '');
    super(`${response.status} ${detail || title}`);
    this.status = response.status;
    this.type = text(problem['type']) ?? 'about:blank';
    this.title = title;
    this.detail = detail;
    this.errors = Array.isArray(problem['errors']) ? (problem['errors'] as FieldError[]) : [];
    this.requestId = text(problem['request_id']) ?? response.headers.get('Request-Id') ?? undefined;
    this.retryAfter = retryAfter(response.headers);
  }

  /** The kind of problem in a word, such as `not_found`: what stands behind `#` in {@link type}. */
  get code(): string {
    return this.type.slice(this.type.lastIndexOf('#') + 1);
  }

  /** What was not accepted of one field or parameter. */
  field(pointer: string): FieldError | undefined {
    return this.errors.find((e) => e.pointer === pointer);
  }
}

/** No answer came: there was no connection, it broke, or it took too long. `cause` says why. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';

  constructor(url: string, cause: unknown) {
    super(`no answer from ${url}: ${cause instanceof Error ? reason(cause) : String(cause)}`, { cause });
  }
}

/** Node hides the reason of a failed fetch in its cause. */
function reason(error: Error): string {
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

/** Seconds of a Retry-After header (RFC 9110 §10.2.3), which has seconds or a date. */
export function retryAfter(headers: Headers): number | undefined {
  const value = headers.get('Retry-After');
  if (!value) {
    return undefined;
  }
  const seconds = /^\d+$/.test(value.trim()) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
