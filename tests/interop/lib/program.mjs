// The programs under test: start one, wait for its line, end it by its pid.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import path from 'node:path';
import { within } from './wait.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
export const packageRoot = path.resolve(here, '..');
const release = path.resolve(packageRoot, '../../target/release');

/** True when the tests are being proved on the Node reference; rows with a known oddity then accept it too. */
export const reference = process.env.REFERENCE === '1';

/** For rows that Node's server does not pass: `{ skip }` of a test. */
export const notOfReference = { skip: reference ? 'the Node server does otherwise' : false };

const sockringBin = process.env.SOCKRING_BIN ?? path.join(release, 'sockring');
const echoBin = process.env.ECHO_BIN ?? path.join(release, 'examples/echo');
const referenceScript = path.join(packageRoot, 'reference.mjs');

/** The heartbeat of the official suites. */
export const suiteTimers = { pingInterval: 300, pingTimeout: 200, connectTimeout: 1000 };
/** The defaults of every Socket.IO server, where timing is not the point. */
export const normalTimers = { pingInterval: 25000, pingTimeout: 20000, connectTimeout: 45000 };

const LINE = /listening on (https?):\/\/[^ ]*:(\d+)/;
const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** The echo example, or what TARGET names. `options`: layer, pingInterval, pingTimeout, connectTimeout, upgradeTimeout, maxPayload, shards. */
export async function startEcho(options = {}) {
  if (process.env.TARGET) return fixedTarget(process.env.TARGET);
  const settings = { layer: 'socketio', maxPayload: 1000000, ...suiteTimers, ...options };
  const flags = ['--layer', settings.layer, '--port', String(settings.port ?? 0)];
  for (const [key, flag] of [
    ['pingInterval', '--ping-interval'],
    ['pingTimeout', '--ping-timeout'],
    ['connectTimeout', '--connect-timeout'],
    ['upgradeTimeout', '--upgrade-timeout'],
    ['maxPayload', '--max-payload'],
    ['shards', '--shards'],
  ]) {
    const value = settings[key] ?? (key === 'shards' ? process.env.SHARDS : undefined);
    if (value !== undefined) flags.push(flag, String(value));
  }
  return reference
    ? start(process.execPath, [referenceScript, 'echo', ...flags], {})
    : start(echoBin, flags, {});
}

/** `sockring serve`, configured by environment only. */
export async function startSockring(env = {}) {
  const settings = {
    PORT: '0',
    ACCESS_TOKEN_SECRET: secret,
    API_KEY: apiKey,
    ...(process.env.SHARDS ? { SOCKRING_SHARDS: process.env.SHARDS } : {}),
    ...env,
  };
  for (const [key, value] of Object.entries(settings)) if (value === null) delete settings[key];
  return reference
    ? start(process.execPath, [referenceScript, 'serve'], settings)
    : start(sockringBin, ['serve'], settings);
}

/** The secret and the key that `startSockring` configures. */
export const secret = 'interop-secret-of-at-least-32-bytes!';
export const apiKey = 'interop-api-key';

function fixedTarget(text) {
  const url = new URL(text);
  const port = Number(url.port);
  return {
    port,
    host: url.hostname,
    url: `http://${url.hostname}:${port}`,
    wsUrl: `ws://${url.hostname}:${port}`,
    assertAlive() {},
    stop: async () => {},
  };
}

/** Starts `bin` and waits for its line. `channel: true`: with a channel for messages (`child.send`), for our own Node programs. */
export async function start(bin, args, env, { channel = false } = {}) {
  if (!existsSync(bin)) {
    throw new Error(`${bin} does not exist: build it (cargo build --release, with --examples for the echo), or name it in SOCKRING_BIN / ECHO_BIN`);
  }
  const child = spawn(bin, args, {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
    stdio: ['ignore', 'pipe', 'pipe', ...(channel ? ['ipc'] : [])],
    serialization: 'advanced',
  });
  running.add(child);
  const tail = [];
  const keep = (line) => {
    if (process.env.VERBOSE) console.error(`[${path.basename(bin)} ${child.pid}] ${line}`);
    tail.push(line);
    if (tail.length > 40) tail.shift();
  };
  const last = () => (tail.length ? `; it said:\n  ${tail.slice(-15).join('\n  ')}` : '; it said nothing');
  const exited = new Promise((resolve) => child.on('exit', (code, signal) => {
    running.delete(child);
    resolve({ code, signal });
  }));
  createInterface({ input: child.stderr }).on('line', keep);
  const [scheme, port] = await within(
    Number(process.env.START_TIMEOUT ?? 30000),
    () => `${bin} ${args.join(' ')} prints "listening on http://HOST:PORT" on stdout${last()}`,
    new Promise((resolve, reject) => {
      child.on('error', (error) => reject(new Error(`${bin} cannot be started: ${error.message}`)));
      createInterface({ input: child.stdout }).on('line', (line) => {
        keep(line);
        const found = LINE.exec(line);
        if (found) resolve([found[1], Number(found[2])]);
      });
      exited.then(({ code, signal }) => {
        reject(new Error(`${bin} ${args.join(' ')} ended before it was ready, code ${code}, signal ${signal}${last()}`));
      });
    }),
  ).catch((error) => {
    child.kill('SIGKILL');
    throw error;
  });

  let stopping = false;
  return {
    port,
    host: '127.0.0.1',
    pid: child.pid,
    child,
    url: `${scheme}://127.0.0.1:${port}`,
    wsUrl: `${scheme.replace('http', 'ws')}://127.0.0.1:${port}`,
    exited,
    said: () => tail.join('\n'),
    /** Fails with its last words when the program is no longer there. */
    assertAlive() {
      if (child.exitCode !== null || child.signalCode !== null) {
        throw new Error(`the server died: code ${child.exitCode}, signal ${child.signalCode}${last()}`);
      }
    },
    signal(name) {
      stopping = true;
      child.kill(name);
    },
    /** Ends it at once; fails when it had ended by itself before. */
    async stop() {
      if (!stopping) this.assertAlive();
      stopping = true;
      child.kill('SIGKILL');
      await within(5000, `pid ${child.pid} is gone after SIGKILL`, exited);
    },
  };
}
