import { ConnectionError } from './error.js';

/** A message of server-sent events, or with no member set a sign of life. */
export interface Message {
  id?: string;
  event?: string;
  data?: string;
  /** How long to wait before connecting again. */
  retryMs?: number;
}

/** The most characters of one message; more is not what our server sends. */
const maxMessage = 4 << 20;

/**
 * Reads server-sent events (HTML Living Standard, "9.2.6 Interpreting an event stream"). It ends with the stream, and
 * throws a ConnectionError when it breaks, or when nothing comes for idleMs. The stream is given up when the reader leaves.
 */
export async function* readEvents(body: ReadableStream<Uint8Array>, idleMs: number, signal?: AbortSignal): AsyncGenerator<Message, void, void> {
  const reader = body.getReader();
  const decoder = new TextDecoder(); // which drops a byte order mark
  const lines = new Lines();
  let message: Message = {};
  try {
    for (;;) {
      const { done, value } = await within(reader, idleMs, signal);
      if (done) {
        return; // what is not closed by an empty line is not a message
      }
      yield {};
      for (const line of lines.push(decoder.decode(value, { stream: true }))) {
        if (line !== '') {
          take(message, line);
          continue;
        }
        if (message.data !== undefined || message.id !== undefined || message.retryMs !== undefined) {
          yield message;
        }
        message = {};
      }
      if (lines.pending() + (message.data?.length ?? 0) > maxMessage) {
        throw new ConnectionError('the event stream', new Error(`a message has more than ${maxMessage} characters`));
      }
    }
  } finally {
    // It may be broken already.
    await reader.cancel().catch(() => undefined);
  }
}

async function within(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  idleMs: number,
  signal: AbortSignal | undefined,
): Promise<ReadableStreamReadResult<Uint8Array>> {
  let stop: () => void = () => undefined;
  const ended = new Promise<never>((_, reject) => {
    const timer = setTimeout(() => reject(new Error(`nothing came for ${idleMs} ms`)), idleMs);
    const abort = () => reject(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    stop = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    };
  });
  try {
    signal?.throwIfAborted();
    return await Promise.race([reader.read(), ended]);
  } catch (error) {
    throw new ConnectionError('the event stream', error);
  } finally {
    stop();
    ended.catch(() => undefined);
  }
}

/** Cuts text into lines, which end in LF, CR or CRLF, however the text arrives. */
class Lines {
  private rest = '';
  private afterCR = false;

  push(text: string): string[] {
    if (this.afterCR && text.startsWith('\n')) {
      text = text.slice(1);
    }
    if (text !== '') {
      this.afterCR = text.endsWith('\r');
    }
    const lines = (this.rest + text).split(/\r\n|\n|\r/);
    this.rest = lines.pop() ?? '';
    return lines;
  }

  pending(): number {
    return this.rest.length;
  }
}

/** Takes one field into a message. */
function take(message: Message, line: string): void {
  const colon = line.indexOf(':');
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? '' : line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1));
  switch (name) {
    case 'data':
      message.data = message.data === undefined ? value : `${message.data}\n${value}`;
      break;
    case 'event':
      message.event = value;
      break;
    case 'id':
      if (!value.includes('\0')) {
        message.id = value;
      }
      break;
    case 'retry':
      if (/^\d+$/.test(value)) {
        message.retryMs = Number(value);
      }
      break;
    // A comment has an empty name; others are to be ignored.
  }
}
