import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { verifyWebhook, WebhookError } from '../src/index.js';

// The example of the Standard Webhooks libraries.
const published = {
  secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
  body: '{"test": 2432232314}',
  headers: {
    'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    'webhook-timestamp': '1614265330',
    'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  },
  now: new Date(1614265330_000),
};

test('the published example fits', async () => {
  const { body, headers, secret, now } = published;
  assert.deepEqual(await verifyWebhook(body, headers, secret, { now }), { test: 2432232314 });
  assert.deepEqual(await verifyWebhook(Buffer.from(body), new Headers(headers), [secret], { now }), { test: 2432232314 });
  const upper = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toUpperCase(), [value]]));
  assert.deepEqual(await verifyWebhook(body, upper, secret, { now }), { test: 2432232314 });
});

function newSecret(): string {
  return `whsec_${randomBytes(32).toString('base64')}`;
}

function sign(secret: string, id: string, timestamp: string, body: string): string {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
  return `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')}`;
}

test('while secrets rotate, either fits', async () => {
  const [older, newer, other] = [newSecret(), newSecret(), newSecret()];
  const body = JSON.stringify({ text: '你好' });
  const timestamp = String(Math.floor(Date.now() / 1000));
  const both = `${sign(older, 'evt_1', timestamp, body)} ${sign(newer, 'evt_1', timestamp, body)} v1a,something`;
  const headers = { 'webhook-id': 'evt_1', 'webhook-timestamp': timestamp, 'webhook-signature': both };
  for (const secrets of [older, newer, [other, newer]]) {
    assert.deepEqual(await verifyWebhook(body, headers, secrets), { text: '你好' });
  }
  await rejected('signature', verifyWebhook(body, headers, other));
  await rejected('signature', verifyWebhook(body, headers, []));
});

async function rejected(code: WebhookError['code'], promise: Promise<unknown>): Promise<void> {
  await assert.rejects(promise, (error) => error instanceof WebhookError && error.code === code);
}

test('what was changed or is too old is refused', async () => {
  const { body, headers, secret, now } = published;
  await rejected('signature', verifyWebhook(body + ' ', headers, secret, { now }));
  await rejected('signature', verifyWebhook(body, { ...headers, 'webhook-id': 'msg_2' }, secret, { now }));
  await rejected('signature', verifyWebhook(body, { ...headers, 'webhook-timestamp': '1614265331' }, secret, { now }));
  await rejected('signature', verifyWebhook(body, { ...headers, 'webhook-signature': 'v1,AAAA v1,?' }, secret, { now }));
  await rejected('signature', verifyWebhook(body, { ...headers, 'webhook-signature': headers['webhook-signature'].replace('v1,', 'v2,') }, secret, { now }));
  for (const seconds of [-301, 301]) {
    await rejected('timestamp', verifyWebhook(body, headers, secret, { now: new Date(now.getTime() + seconds * 1000) }));
  }
  await rejected('timestamp', verifyWebhook(body, { ...headers, 'webhook-timestamp': 'now' }, secret, { now }));
  for (const name of Object.keys(headers)) {
    await rejected('unsigned', verifyWebhook(body, { ...headers, [name]: undefined }, secret, { now }));
  }
  for (const bad of ['', 'whsec_', 'whsec_c2hvcnQ=', 'whsec_???']) {
    await rejected('secret', verifyWebhook(body, headers, bad, { now }));
  }
  const timestamp = String(Math.floor(Date.now() / 1000));
  await rejected('body', verifyWebhook('no', { ...headers, 'webhook-timestamp': timestamp, 'webhook-signature': sign(secret, headers['webhook-id'], timestamp, 'no') }, secret));
});
