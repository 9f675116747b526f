import { retryAfter } from './error.js';

/** How requests that got no answer, or were told to come back, are repeated. */
export interface RetryPolicy {
  /** Attempts in all. */
  attempts: number;
  /** The first wait, in milliseconds. It doubles with each attempt; half of it is random. */
  baseMs: number;
  /** The longest wait. A server that asks for more gets no further attempt. */
  maxMs: number;
}

export const defaultRetry: RetryPolicy = { attempts: 4, baseMs: 250, maxMs: 20_000 };

/** Waits; ends early, with the signal's reason, when it is aborted. */
export function sleep(ms: number, signal?: AbortSignal | null): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, ms);
    signal?.addEventListener('abort', stop, { once: true });
  });
}

/** The wait before attempt n (from 1) is repeated: doubling, half of it random, so that many clients do not come at once. */
export function backoff(policy: { baseMs: number; maxMs: number }, n: number): number {
  const full = Math.min(policy.maxMs, policy.baseMs * 2 ** (n - 1));
  return full / 2 + (Math.random() * full) / 2;
}

/** Whether doing a request twice is the same as doing it once. */
function repeatable(request: Request): boolean {
  switch (request.method) {
    case 'GET':
    case 'HEAD':
      return true;
    case 'POST':
      return request.headers.has('Idempotency-Key') || isSearch(request.url);
    default:
      // After a change that went through, its own If-Match no longer fits.
      return !request.headers.has('If-Match');
  }
}

/** A search changes nothing. */
export function isSearch(url: string): boolean {
  return new URL(url).pathname.endsWith('/search');
}

/**
 * A fetch that repeats a request: after 429 always, as nothing was done; when no answer came, and after 502, 503 and
 * 504, only where doing it twice is the same as doing it once. An attempt has `timeoutMs` until its answer begins, 0
 * for no limit.
 */
export function retrying(fetch: typeof globalThis.fetch, policy: RetryPolicy, timeoutMs: number): typeof globalThis.fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    const twice = repeatable(request);
    let lost = false;
    for (let n = 1; ; n++) {
      const last = n >= policy.attempts;
      let response: Response;
      try {
        response = await attempt(fetch, last ? request : request.clone(), timeoutMs);
      } catch (error) {
        if (last || !twice || request.signal.aborted) {
          throw error;
        }
        lost = true;
        await sleep(backoff(policy, n), request.signal);
        continue;
      }
      // A POST whose answer was lost may still be running: the server says 409 to its key until it is done.
      const running = lost && response.status === 409 && request.headers.has('Idempotency-Key');
      const again = response.status === 429 || (twice && (running || [502, 503, 504].includes(response.status)));
      const asked = (retryAfter(response.headers) ?? 0) * 1000;
      if (last || !again || asked > policy.maxMs) {
        return response;
      }
      await response.body?.cancel();
      await sleep(Math.max(asked, backoff(policy, n)), request.signal);
    }
  };
}

async function attempt(fetch: typeof globalThis.fetch, request: Request, timeoutMs: number): Promise<Response> {
  if (timeoutMs === 0) {
    return fetch(request);
  }
  const within = new AbortController();
  const timer = setTimeout(() => within.abort(new DOMException(`no answer within ${timeoutMs} ms`, 'TimeoutError')), timeoutMs);
  try {
    return await fetch(request, { signal: AbortSignal.any([request.signal, within.signal]) });
  } finally {
    // The body may take as long as it likes.
    clearTimeout(timer);
  }
}
