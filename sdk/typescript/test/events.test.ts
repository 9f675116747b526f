import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { test } from 'node:test';
import { createClient, followEvents, HookswitchError, type AccountEvent, type FollowOptions } from '../src/index.js';
import { json, Scripted, type Seen } from './server.js';

function event(position: number): AccountEvent {
  return { id: `evt_${position}`, type: 'call.ended', account_id: 'acc_1', resource: 'calls', occurred_at: '2026-01-31T08:00:00Z', position, data: { text: '你\n' } };
}

function frame(position: number): string {
  return `id: ${position}\nevent: call.ended\ndata: ${JSON.stringify(event(position))}\n\n`;
}

function begin(answer: ServerResponse): ServerResponse {
  answer.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8' });
  answer.write(': hookswitch\nretry: 1\n\n');
  return answer;
}

/** Follows a scripted stream until it has seen so many events. */
async function follow(
  handle: (seen: Seen, answer: ServerResponse, n: number) => void,
  most: number,
  options: Partial<FollowOptions> = {},
): Promise<{ positions: (number | undefined)[]; seen: Seen[] }> {
  const server = await Scripted.start(handle);
  try {
    const client = createClient({ baseUrl: server.baseUrl, apiKey: 'sk_test', retry: false });
    const positions: (number | undefined)[] = [];
    for await (const e of followEvents({ client, backoff: { baseMs: 1, maxMs: 10 }, ...options })) {
      assert.deepEqual(e, event(e.position ?? 0));
      positions.push(e.position);
      if (positions.length === most) {
        break;
      }
    }
    return { positions, seen: server.seen };
  } finally {
    await server.stop();
  }
}

const lastIds = (seen: Seen[]) => seen.map((s) => s.headers['last-event-id']);

test('a stream that breaks goes on after the last event', async () => {
  const { positions, seen } = await follow((_, answer, n) => {
    begin(answer);
    switch (n) {
      case 1:
        answer.write(frame(1) + frame(2));
        answer.end();
        break;
      case 2: // with what was seen already, as after a restart of the server
        answer.write(frame(2) + frame(3), () => answer.destroy());
        break;
      default:
        answer.write(frame(4));
    }
  }, 4);
  assert.deepEqual(positions, [1, 2, 3, 4]);
  assert.deepEqual(lastIds(seen), [undefined, '2', '3']);
  assert.equal(seen[0]?.headers.accept, 'text/event-stream');
  assert.equal(seen[0]?.headers.authorization, 'Bearer sk_test');
});

test('an event that is cut in two is read again, whole', async () => {
  const { positions, seen } = await follow((_, answer, n) => {
    begin(answer);
    if (n === 1) {
      answer.write(frame(1) + frame(2).slice(0, 40), () => answer.destroy());
    } else {
      answer.write(frame(2));
    }
  }, 2);
  assert.deepEqual(positions, [1, 2]);
  assert.deepEqual(lastIds(seen), [undefined, '1']);
});

test('a position without an event is where the stream goes on', async () => {
  const { seen } = await follow((_, answer, n) => {
    begin(answer);
    if (n === 1) {
      answer.end('id: 70\n\n');
    } else {
      answer.write(frame(71));
    }
  }, 1);
  assert.deepEqual(lastIds(seen), [undefined, '70']);
});

test('it begins after a position, with types', async () => {
  const { positions, seen } = await follow((_, answer) => void begin(answer).write(frame(8)), 1, { after: 7, types: ['call.*', 'job.updated'] });
  assert.deepEqual(positions, [8]);
  assert.equal(seen[0]?.headers['last-event-id'], '7');
  assert.equal(seen[0]?.url, '/v1/events/stream?type=call.*&type=job.updated');
});

test('text is read however it arrives', async () => {
  for (const newline of ['\n', '\r\n', '\r']) {
    for (const size of [1, 2, 3, 7, 1000]) {
      const bytes = Buffer.from(`\uFEFF${frame(1)}:\n\n${frame(2)}data\n\n`.replaceAll('\n', newline));
      const { positions } = await follow((_, answer, n) => {
        answer.writeHead(200, { 'Content-Type': 'text/event-stream' });
        if (n > 1) {
          answer.write(frame(3));
          return;
        }
        const send = (from: number): void => {
          if (from < bytes.length) {
            answer.write(bytes.subarray(from, from + size), () => setImmediate(send, from + size));
          } else {
            answer.end();
          }
        };
        send(0);
        // "data" alone is an event with an empty text, which is no JSON: here the reader has left.
      }, 2);
      assert.deepEqual(positions, [1, 2]);
    }
  }
});

test('a server that is away is asked again, as it says', async () => {
  const breaks: number[] = [];
  let opened = 0;
  const { positions, seen } = await follow(
    (_, answer, n) => {
      if (n === 1) {
        answer.destroy();
      } else if (n === 2) {
        json(answer, 503, { type: '/docs/problems#unavailable', title: 'Unavailable', status: 503 }, { 'Retry-After': '1' });
      } else {
        begin(answer).write(frame(1));
      }
    },
    1,
    { onBreak: (_, waitMs) => breaks.push(waitMs), onOpen: () => opened++ },
  );
  assert.deepEqual(positions, [1]);
  assert.equal(seen.length, 3);
  assert.equal(opened, 1);
  assert.ok((breaks[0] ?? 99) <= 10 && (breaks[1] ?? 0) >= 1000, String(breaks));
});

test('what repeating cannot help is thrown', async () => {
  for (const status of [400, 401, 403, 422]) {
    const run = follow((_, answer) => json(answer, status, { type: '/docs/problems#x', title: 'No', status }), 1);
    await assert.rejects(run, (error) => error instanceof HookswitchError && error.status === status);
  }
});

test('a stream on which nothing comes is opened again', async () => {
  const { positions, seen } = await follow(
    (_, answer, n) => {
      begin(answer);
      if (n > 1) {
        answer.write(frame(1));
      }
    },
    1,
    { idleMs: 100 },
  );
  assert.deepEqual(positions, [1]);
  assert.ok(seen.length >= 2);
});

test('a signal ends it at once, and leaving the loop closes the connection', async () => {
  let closed = 0;
  const server = await Scripted.start((_, answer) => {
    answer.on('close', () => closed++);
    begin(answer).write(frame(1));
  });
  try {
    const client = createClient({ baseUrl: server.baseUrl });
    const abort = new AbortController();
    for await (const e of followEvents({ client, signal: abort.signal })) {
      assert.equal(e.position, 1);
      abort.abort();
    }
    for await (const e of followEvents({ client })) {
      assert.equal(e.position, 1);
      break;
    }
    while (closed < 2) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const over = new AbortController();
    over.abort();
    for await (const e of followEvents({ client, signal: over.signal })) {
      assert.fail(`an event after the end: ${e.id}`);
    }
  } finally {
    await server.stop();
  }
});
