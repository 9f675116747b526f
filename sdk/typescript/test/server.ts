import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createServer as createTCP } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository, seen from build/test. */
const repository = fileURLToPath(new URL('../../../../', import.meta.url));

/** The built server: HOOKSWITCH_BINARY, or one that is built here. */
function binary(): string {
  const given = process.env['HOOKSWITCH_BINARY'];
  if (given) {
    return given;
  }
  const path = join(repository, 'sdk/typescript/build/hookswitch');
  const built = spawnSync('go', ['build', '-o', path, './deploy/cmd/hookswitch'], {
    cwd: repository,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, CGO_ENABLED: '0' },
  });
  assert.equal(built.status, 0, 'the server could not be built');
  return path;
}

async function freePort(): Promise<number> {
  const server = createTCP().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

/** A running `hookswitch up` with data of its own. */
export class Hookswitch {
  readonly baseUrl: string;
  readonly apiKey: string;
  private readonly process: ChildProcess;
  private readonly data: string;

  private constructor(process: ChildProcess, data: string, baseUrl: string, apiKey: string) {
    this.process = process;
    this.data = data;
    this.baseUrl = baseUrl;
    this.apiKey = apiKey;
  }

  static async start(): Promise<Hookswitch> {
    const data = mkdtempSync(join(tmpdir(), 'hookswitch-sdk'));
    const [http, sip] = [await freePort(), await freePort()];
    const args = ['up', '--data', data, '--http', `127.0.0.1:${http}`, '--sip', `127.0.0.1:${sip}`, '--rtp', '34000-34099', '--ops', '127.0.0.1:0'];
    const process = spawn(binary(), args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [process.stdout, process.stderr]) {
      stream.on('data', (text) => (output += String(text)));
    }
    const gone = new AbortController();
    const ended = once(process, 'exit').then(([code]) => {
      gone.abort();
      throw new Error(`hookswitch up ended with ${String(code)}:\n${output}`);
    });
    ended.catch(() => undefined);
    const baseUrl = `http://127.0.0.1:${http}`;
    await Promise.race([ended, answers(`${baseUrl}/readyz`, gone.signal)]);
    const credentials = join(data, 'credentials');
    await Promise.race([ended, until(() => existsSync(credentials) && /api_key: \S+/.test(readFileSync(credentials, 'utf8')), gone.signal)]);
    const apiKey = /api_key: (\S+)/.exec(readFileSync(credentials, 'utf8'))?.[1];
    assert.ok(apiKey);
    return new Hookswitch(process, data, baseUrl, apiKey);
  }

  async stop(): Promise<void> {
    const ended = once(this.process, 'exit');
    this.process.kill('SIGTERM');
    await ended;
    rmSync(this.data, { recursive: true });
  }
}

async function answers(url: string, stop: AbortSignal): Promise<void> {
  await until(async () => {
    try {
      return (await fetch(url)).ok;
    } catch {
      return false;
    }
  }, stop);
}

async function until(condition: () => boolean | Promise<boolean>, stop: AbortSignal): Promise<void> {
  while (!stop.aborted && !(await condition())) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** One request, as a server of our own has seen it. */
export interface Seen {
  method: string;
  url: string;
  headers: IncomingMessage['headers'];
  body: string;
}

/** A server of a test's own, for what a real one does not do on demand. */
export class Scripted {
  readonly seen: Seen[] = [];
  private readonly server: Server;

  private constructor(handle: (seen: Seen, answer: ServerResponse, n: number) => void) {
    this.server = createServer((request, answer) => {
      let body = '';
      request.on('data', (text) => (body += String(text)));
      request.on('end', () => {
        const seen = { method: request.method ?? '', url: request.url ?? '', headers: request.headers, body };
        this.seen.push(seen);
        handle(seen, answer, this.seen.length);
      });
    });
  }

  /** `handle` answers the nth request, from 1. */
  static async start(handle: (seen: Seen, answer: ServerResponse, n: number) => void): Promise<Scripted> {
    const s = new Scripted(handle);
    s.server.listen(0, '127.0.0.1');
    await once(s.server, 'listening');
    return s;
  }

  get baseUrl(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** Answers with JSON. */
export function json(answer: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void {
  const type = status < 400 ? 'application/json' : 'application/problem+json';
  answer.writeHead(status, { 'Content-Type': type, ...headers });
  answer.end(JSON.stringify(body));
}
