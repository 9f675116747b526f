// Against the server itself.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  configure,
  createCall,
  createClient,
  createNumber,
  deleteNumber,
  followEvents,
  getNumber,
  HookswitchError,
  listAuditEntries,
  listNumbers,
  pages,
  paginate,
  searchNumbers,
  updateNumber,
  uploadMedia,
  type Client,
  type Number as PhoneNumber,
} from '../src/index.js';
import { Hookswitch } from './server.js';

let server: Hookswitch | undefined;
let client: Client;

before(async () => {
  server = await Hookswitch.start();
  client = createClient({ baseUrl: server.baseUrl, apiKey: server.apiKey });
});

after(async () => {
  await server?.stop();
});

async function thrown(promise: Promise<unknown>): Promise<HookswitchError> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof HookswitchError, String(error));
    return error;
  }
  throw new Error('nothing was thrown');
}

test('an object is made, read, changed and removed', async () => {
  const made = await createNumber({ client, body: { number: '2001', metadata: { floor: 3 } } });
  assert.equal(made.number, '2001');
  const path = { number_id: made.id };
  const changed = await updateNumber({ client, path, headers: { 'If-Match': made.etag }, body: { external_id: 'crm-1' } });
  assert.equal(changed.external_id, 'crm-1');
  const read: PhoneNumber = await getNumber({ client, path });
  assert.deepEqual(read, changed);
  const stale = await thrown(updateNumber({ client, path, headers: { 'If-Match': made.etag }, body: { external_id: 'crm-2' } }));
  assert.equal(stale.status, 412);
  await deleteNumber({ client, path });
  const gone = await thrown(getNumber({ client, path }));
  assert.equal(gone.status, 404);
  assert.equal(gone.code, 'not_found');
});

test('an error says what was not accepted, and where', async () => {
  const error = await thrown(createNumber({ client, body: { number: 'bob' } }));
  assert.equal(error.status, 400);
  assert.match(error.type, /#invalid$/);
  assert.equal(error.code, 'invalid');
  assert.ok(error.title && error.detail);
  assert.match(error.requestId ?? '', /^req_/);
  assert.equal(error.field('/number')?.pointer, '/number');
  assert.match(error.message, /^400 /);
  const unknown = await thrown(getNumber({ client: createClient({ baseUrl: server?.baseUrl, apiKey: 'sk_unknown' }), path: { number_id: 'num_1' } }));
  assert.equal(unknown.status, 401);
});

test('a list is read to its end, in one order, each row once', async () => {
  const made: string[] = [];
  for (let n = 3001; n <= 3025; n++) {
    made.push((await createNumber({ client, body: { number: String(n), external_id: `list-${n}` } })).id);
  }
  const listed: string[] = [];
  for await (const number of paginate(listNumbers, { client, query: { limit: 4, sort: 'number', q: '30' } })) {
    listed.push(number.id);
  }
  assert.deepEqual(listed, made);
  const sizes: number[] = [];
  for await (const page of pages(listNumbers, { client, query: { limit: 10, q: '30' } })) {
    sizes.push(page.length);
  }
  assert.deepEqual(sizes, [10, 10, 5]);
  const found: string[] = [];
  const filter = { external_id: { in: ['list-3003', 'list-3007', 'list-3011'] } };
  for await (const number of paginate(searchNumbers, { client, body: { filter, limit: 1, sort: 'number' } })) {
    found.push(number.number);
  }
  assert.deepEqual(found, ['3003', '3007', '3011']);
  for await (const number of paginate(listNumbers, { client, query: { limit: 4, q: '30' } })) {
    assert.ok(number.id);
    break; // leaving early asks for nothing more
  }
});

test('parameters with brackets, several values and other letters arrive', async () => {
  const since = new Date(Date.now() - 3_600_000).toISOString();
  const page = await listAuditEntries({ client, query: { operation: ['createNumber', 'deleteNumber'], 'created_at[gte]': since, count: true, limit: 1000 } });
  assert.ok(page.data.length > 0 && page.data.length === page.total);
  assert.ok(page.data.every((entry) => ['createNumber', 'deleteNumber'].includes(entry.operation)));
  const none = await listNumbers({ client, query: { external_id: '客户 & co/1' } });
  assert.deepEqual(none.data, []);
});

test('a key makes a repeated POST one', async () => {
  const body = { number: '4001' };
  const headers = { 'Idempotency-Key': 'once' };
  const first = await createNumber({ client, body, headers });
  const again = await createNumber({ client, body, headers });
  assert.equal(first.id, again.id);
  const other = await thrown(createNumber({ client, body: { number: '4002' }, headers }));
  assert.equal(other.status, 422);
});

test('a file is uploaded', async () => {
  // 20 ms of silence: PCM, 16 bit, 8 kHz, mono.
  const wav = Buffer.alloc(44 + 320);
  wav.write('RIFF', 0);
  wav.writeUInt32LE(36 + 320, 4);
  wav.write('WAVEfmt ', 8);
  wav.writeUInt32LE(16, 16);
  wav.writeUInt16LE(1, 20);
  wav.writeUInt16LE(1, 22);
  wav.writeUInt32LE(8000, 24);
  wav.writeUInt32LE(16000, 28);
  wav.writeUInt16LE(2, 32);
  wav.writeUInt16LE(16, 34);
  wav.write('data', 36);
  wav.writeUInt32LE(320, 40);
  const media = await uploadMedia({ client, body: { name: 'silence', file: new File([wav], 'silence.wav', { type: 'audio/wav' }) } });
  assert.match(media.id, /^med_/);
});

test('the events of a call arrive as they happen, and again from where the client was', async () => {
  const events: { type: string; position: number | undefined }[] = [];
  // Nobody has registered the extension, so that the call ends at once.
  const start = () => createCall({ client, body: { to: { extension: '1001' }, program: [{ verb: 'hangup' }] } });
  let called: Promise<{ id: string }> | undefined;
  for await (const event of followEvents({ client, types: ['call.*'], onOpen: () => (called ??= start()) })) {
    assert.ok(called);
    assert.equal(event.call_id, (await called).id);
    events.push({ type: event.type, position: event.position });
    if (event.type === 'call.ended') {
      break;
    }
  }
  assert.ok(events.length >= 2, JSON.stringify(events));
  const again: typeof events = [];
  for await (const event of followEvents({ client, types: ['call.*'], after: events[0]?.position ?? 0 })) {
    again.push({ type: event.type, position: event.position });
    if (event.type === 'call.ended') {
      break;
    }
  }
  assert.deepEqual(again, events.slice(1));
});

test('operations called without a client use the one that was set up', async () => {
  configure({ baseUrl: server?.baseUrl, apiKey: () => Promise.resolve(server?.apiKey) });
  const made = await createNumber({ body: { number: '5001' } });
  assert.equal((await getNumber({ path: { number_id: made.id } })).id, made.id);
  configure({ baseUrl: server?.baseUrl });
  assert.equal((await thrown(listNumbers())).status, 401);
});
