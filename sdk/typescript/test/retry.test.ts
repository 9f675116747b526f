import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ConnectionError,
  createClient,
  createNumber,
  deleteNumber,
  HookswitchError,
  listNumbers,
  searchNumbers,
  updateNumber,
  type Client,
} from '../src/index.js';
import { json, Scripted, type Seen } from './server.js';
import type { ServerResponse } from 'node:http';

const retry = { attempts: 3, baseMs: 1, maxMs: 2000 };

async function against(
  handle: (seen: Seen, answer: ServerResponse, n: number) => void,
  run: (client: Client, server: Scripted) => Promise<void>,
): Promise<void> {
  const server = await Scripted.start(handle);
  try {
    await run(createClient({ baseUrl: server.baseUrl, apiKey: 'sk_test', retry }), server);
  } finally {
    await server.stop();
  }
}

const row = { id: 'num_1', number: '1000' };
const problem = (status: number) => ({ type: `/docs/problems#p${status}`, title: 'No', status, detail: `It is ${status}.` });

/** Fails n times, then answers. */
function failing(times: number, fail: (answer: ServerResponse) => void): (seen: Seen, answer: ServerResponse, n: number) => void {
  return (_, answer, n) => (n <= times ? fail(answer) : json(answer, 200, { data: [], ...row }));
}

const lost = (answer: ServerResponse) => answer.destroy();
const says = (status: number, headers?: Record<string, string>) => (answer: ServerResponse) => json(answer, status, problem(status), headers);

test('what is safe to repeat is repeated', async () => {
  const operations: Record<string, (client: Client) => Promise<unknown>> = {
    list: (client) => listNumbers({ client }),
    create: (client) => createNumber({ client, body: { number: '1000' } }),
    search: (client) => searchNumbers({ client, body: {} }),
    change: (client) => updateNumber({ client, path: { number_id: 'num_1' }, body: {} }),
    remove: (client) => deleteNumber({ client, path: { number_id: 'num_1' } }),
  };
  for (const [name, call] of Object.entries(operations)) {
    for (const fail of [lost, says(429), says(502), says(503), says(504)]) {
      await against(failing(2, fail), async (client, server) => {
        await call(client);
        assert.equal(server.seen.length, 3, name);
        const [first, ...others] = server.seen;
        for (const other of others) {
          assert.equal(other.body, first?.body);
          assert.equal(other.headers['idempotency-key'], first?.headers['idempotency-key']);
        }
        assert.equal(first?.headers['idempotency-key'] !== undefined, name === 'create');
        assert.equal(first?.headers.authorization, 'Bearer sk_test');
      });
    }
  }
});

test('what may not be done twice is repeated only when nothing was done', async () => {
  const change = (client: Client) => updateNumber({ client, path: { number_id: 'num_1' }, body: {}, headers: { 'If-Match': '1' } });
  await against(failing(1, lost), async (client, server) => {
    await assert.rejects(change(client), ConnectionError);
    assert.equal(server.seen.length, 1);
  });
  await against(failing(1, says(503)), async (client, server) => {
    await assert.rejects(change(client), HookswitchError);
    assert.equal(server.seen.length, 1);
  });
  await against(failing(1, says(429)), async (client, server) => {
    await change(client);
    assert.equal(server.seen.length, 2);
  });
});

test('a refusal is not repeated', async () => {
  for (const status of [400, 401, 403, 404, 409, 412, 422, 500]) {
    await against(failing(1, says(status)), async (client, server) => {
      await assert.rejects(createNumber({ client, body: { number: '1' } }), (error) => error instanceof HookswitchError && error.status === status);
      assert.equal(server.seen.length, 1);
    });
  }
});

test('a POST whose answer was lost waits for the first to be done', async () => {
  const handle = (_: Seen, answer: ServerResponse, n: number) => (n === 1 ? lost(answer) : n === 2 ? says(409)(answer) : json(answer, 201, row));
  await against(handle, async (client, server) => {
    assert.equal((await createNumber({ client, body: { number: '1000' } })).id, 'num_1');
    assert.equal(server.seen.length, 3);
  });
});

test('a client waits as long as Retry-After says', async () => {
  const times: number[] = [];
  const handle = (_: Seen, answer: ServerResponse, n: number) => {
    times.push(performance.now());
    if (n === 1) {
      says(429, { 'Retry-After': '1' })(answer);
    } else {
      json(answer, 200, { data: [] });
    }
  };
  await against(handle, async (client) => {
    await listNumbers({ client });
    const [first = 0, second = 0] = times;
    assert.ok(second - first >= 990, `waited ${second - first} ms`);
  });
});

test('a client that would have to wait too long says so', async () => {
  await against(failing(1, says(503, { 'Retry-After': '60' })), async (client, server) => {
    await assert.rejects(listNumbers({ client }), (error) => error instanceof HookswitchError && error.retryAfter === 60);
    assert.equal(server.seen.length, 1);
  });
});

test('the last failure is thrown', async () => {
  await against(failing(9, says(503)), async (client, server) => {
    await assert.rejects(listNumbers({ client }), (error) => error instanceof HookswitchError && error.status === 503 && error.detail === 'It is 503.');
    assert.equal(server.seen.length, retry.attempts);
  });
  await against(failing(9, lost), async (client, server) => {
    await assert.rejects(listNumbers({ client }), (error) => error instanceof ConnectionError && error.message.includes(server.baseUrl));
    assert.equal(server.seen.length, retry.attempts);
  });
});

test('an answer that is no problem is an error all the same', async () => {
  const handle = (_: Seen, answer: ServerResponse) => {
    answer.writeHead(500, 'Oh', { 'Content-Type': 'text/html', 'Request-Id': 'req_1' });
    answer.end('<h1>proxy</h1>');
  };
  await against(handle, async (client) => {
    await assert.rejects(listNumbers({ client }), (error) => {
      assert.ok(error instanceof HookswitchError);
      assert.deepEqual([error.status, error.type, error.title, error.detail, error.requestId], [500, 'about:blank', 'Oh', '<h1>proxy</h1>', 'req_1']);
      assert.deepEqual(error.errors, []);
      return true;
    });
  });
});

test('nothing is repeated after it was aborted', async () => {
  const abort = new AbortController();
  const handle = (_: Seen, answer: ServerResponse) => {
    abort.abort(new Error('enough'));
    says(503)(answer);
  };
  await against(handle, async (client, server) => {
    await assert.rejects(listNumbers({ client, signal: abort.signal }), /enough|abort/);
    assert.equal(server.seen.length, 1);
  });
});

test('an attempt that is not answered in time is given up', async () => {
  const server = await Scripted.start((_, answer, n) => {
    if (n > 1) {
      json(answer, 200, { data: [] });
    }
  });
  try {
    // On a busy machine the second may be late too.
    const client = createClient({ baseUrl: server.baseUrl, retry: { ...retry, attempts: 20 }, timeoutMs: 100 });
    await listNumbers({ client });
    assert.ok(server.seen.length >= 2);
  } finally {
    await server.stop();
  }
});

test('retry: false asks once', async () => {
  const server = await Scripted.start(failing(1, says(503)));
  try {
    await assert.rejects(listNumbers({ client: createClient({ baseUrl: server.baseUrl, retry: false }) }), HookswitchError);
    assert.equal(server.seen.length, 1);
  } finally {
    await server.stop();
  }
});

test('a session sends its cookie, and its token with changes', async () => {
  const server = await Scripted.start((_, answer) => json(answer, 200, { data: [] }));
  try {
    const session: { csrfToken?: string; cookie: string } = { cookie: 'hookswitch_session=s' };
    const client = createClient({ baseUrl: `${server.baseUrl}/`, session });
    await listNumbers({ client });
    session.csrfToken = 'c';
    await listNumbers({ client });
    await deleteNumber({ client, path: { number_id: 'num_1' } });
    assert.deepEqual(
      server.seen.map((seen) => [seen.method, seen.url, seen.headers.cookie, seen.headers['x-csrf-token'], seen.headers.authorization]),
      [
        ['GET', '/v1/numbers', 'hookswitch_session=s', undefined, undefined],
        ['GET', '/v1/numbers', 'hookswitch_session=s', undefined, undefined],
        ['DELETE', '/v1/numbers/num_1', 'hookswitch_session=s', 'c', undefined],
      ],
    );
  } finally {
    await server.stop();
  }
});
