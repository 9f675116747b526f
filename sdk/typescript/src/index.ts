/**
 * The client of the Hookswitch REST API. Every operation of the specification is a function of its operationId; their
 * code and types are generated, what is beside them is written by hand.
 */
export * from './generated/index.js';
export { configure, createClient, type Client, type ClientOptions, type ClientSession } from './client.js';
export { ConnectionError, HookswitchError, type FieldError } from './error.js';
export { followEvents, type FollowOptions } from './events.js';
export { pages, paginate, type ListOperation, type RowOf } from './paginate.js';
export type { RetryPolicy } from './retry.js';
export { verifyWebhook, WebhookError, type VerifyOptions } from './webhook.js';
