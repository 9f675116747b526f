import type { Client } from './client.js';
import { ConnectionError, HookswitchError } from './error.js';
import type { AccountEvent } from './generated/types.gen.js';
import { backoff, sleep } from './retry.js';
import { readEvents } from './sse.js';

export interface FollowOptions {
  client: Client;
  /** Only events of these types; `call.*` is all that begin so. */
  types?: string[];
  /** The position of the last event that was seen, to miss none; without it the stream begins now. */
  after?: number;
  /** Ends the stream. */
  signal?: AbortSignal;
  /** Called when the stream is open, the first time and after each break. */
  onOpen?: () => void;
  /** Called with what broke it, before it is opened again after `waitMs`. */
  onBreak?: (error: unknown, waitMs: number) => void;
  /** How long to wait before opening it again, doubling from base to max, in milliseconds. */
  backoff?: { baseMs: number; maxMs: number };
  /** How long nothing at all may come, in milliseconds; 45,000. The server says something every 15 seconds. */
  idleMs?: number;
}

/**
 * Follows the events of the account as they happen:
 *
 *     for await (const event of followEvents({ client, types: ['call.*'] })) { … }
 *
 * It has no end of its own: when the stream breaks it is opened again, after the last event that was seen, so that every
 * event is given once and in order. Leave the loop, or abort the signal, to end it. It throws a {@link HookswitchError}
 * that repeating cannot help: the key is over (401), or `after` is older than events are kept (422).
 */
export async function* followEvents(options: FollowOptions): AsyncGenerator<AccountEvent, void, void> {
  const { signal, idleMs = 45_000 } = options;
  let wait = options.backoff ?? { baseMs: 500, maxMs: 30_000 };
  let after = options.after;
  for (let failures = 1; ; failures++) {
    try {
      const body = await open(options, after);
      options.onOpen?.();
      for await (const message of readEvents(body, idleMs, signal)) {
        failures = 0;
        if (message.retryMs !== undefined) {
          wait = { baseMs: message.retryMs, maxMs: Math.max(message.retryMs, wait.maxMs) };
        }
        const position = message.id === undefined ? Number.NaN : Number(message.id);
        const seen = after !== undefined && position <= after;
        if (!Number.isNaN(position) && !seen) {
          // Without data it only says how far the stream is.
          after = position;
        }
        if (message.data !== undefined && !seen) {
          yield JSON.parse(message.data) as AccountEvent;
        }
      }
      throw new ConnectionError('the event stream', new Error('it has ended'));
    } catch (error) {
      if (signal?.aborted) {
        return;
      }
      if (!passing(error)) {
        throw error;
      }
      const asked = error instanceof HookswitchError ? (error.retryAfter ?? 0) * 1000 : 0;
      const waitMs = Math.max(asked, backoff(wait, Math.max(1, failures)));
      options.onBreak?.(error, waitMs);
      try {
        await sleep(waitMs, signal);
      } catch {
        return;
      }
    }
  }
}

/** What another attempt may get over. */
function passing(error: unknown): boolean {
  if (error instanceof HookswitchError) {
    return error.status === 429 || error.status >= 500;
  }
  return error instanceof ConnectionError;
}

async function open({ client, types, signal }: FollowOptions, after: number | undefined): Promise<ReadableStream<Uint8Array>> {
  const answer = await client.get<ReadableStream<Uint8Array>, unknown, true, 'data'>({
    url: '/v1/events/stream',
    security: [{ scheme: 'bearer', type: 'http' }],
    parseAs: 'stream',
    responseStyle: 'data',
    throwOnError: true,
    cache: 'no-store',
    headers: { Accept: 'text/event-stream', ...(after === undefined ? {} : { 'Last-Event-ID': String(after) }) },
    query: types ? { type: types } : {},
    signal: signal ?? null,
  });
  return answer;
}
