// The sockring binary as a child process: started on a port, awaited by what it prints, ended by its pid.
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { fileURLToPath } from 'node:url';

const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));
export const BINARY = process.env.SOCKRING_BIN ?? `${REPOSITORY}target/release/sockring`;
const START_MS_MAX = 20_000;

export const SECRET = 'browser-tests-secret-of-at-least-32-bytes';

// Starts the server and waits until it listens. `settings` are environment variables. Nothing else of ours is passed on,
// so that a REDIS_URL of the developer's shell does not change what is tested.
export async function startServer(settings = {}) {
  const { PATH, HOME } = process.env;
  const child = spawn(BINARY, ['serve'], { env: { PATH, HOME, PORT: '0', ...settings }, stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = new Promise((resolve) => {
    child.once('error', resolve);
    child.once('exit', resolve);
  });
  process.once('exit', () => child.kill('SIGKILL')); // if a test run ends without stop()
  let output = '';
  const listeners = new Set();
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
      for (const listener of listeners) listener();
    });
  }

  // The first match of `pattern` in what the server has printed or will print.
  const printed = (pattern) => new Promise((resolve, reject) => {
    const finish = (settle, value) => {
      clearTimeout(timer);
      listeners.delete(look);
      settle(value);
    };
    const look = () => {
      const match = pattern.exec(output);
      if (match) finish(resolve, match);
    };
    const fail = (why) => finish(reject, new Error(`${BINARY}: ${why}; wanted ${pattern}, it printed:\n${output}`));
    const timer = setTimeout(() => fail('too late'), START_MS_MAX);
    exited.then((how) => fail(`ended (${how})`));
    listeners.add(look);
    look();
  });

  const stop = async () => {
    // One signal drains, the second ends at once, the third cannot be ignored.
    for (const [signal, waitMs] of [['SIGTERM', 3_000], ['SIGTERM', 3_000], ['SIGKILL', 3_000]]) {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
      child.kill(signal);
      await within(waitMs, exited);
    }
  };

  let scheme;
  let port;
  try {
    [, scheme, port] = await printed(/listening on (https?):\/\/[^ ]*:(\d+)/);
  } catch (error) {
    await stop();
    throw error;
  }
  port = Number(port);
  const origin = `${scheme}://localhost:${port}`;
  return {
    port,
    origin,
    printed,
    stop,
    kill: async () => {
      child.kill('SIGKILL');
      await within(3_000, exited);
    },
    // It answers nobody until it goes on.
    pause: () => child.kill('SIGSTOP'),
    goOn: () => child.kill('SIGCONT'),
    pageUrl: (token) => `${origin}/#token=${token}`,
    // POST to the HTTP API; answers the envelope's data.
    post: async (path, body) => {
      const response = await fetch(`${origin}/api/v1/websocket${path}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(10_000),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`POST ${path}: ${response.status} ${text}`);
      return JSON.parse(text).data;
    },
  };
}

async function within(milliseconds, promise) {
  let timer;
  await Promise.race([promise, new Promise((resolve) => { timer = setTimeout(resolve, milliseconds); })]);
  clearTimeout(timer);
}

// An HS256 token for `userId`, as the product's login would make it. `ttlSeconds` below zero: expired already.
export function mint(userId, { secret = SECRET, ttlSeconds = 3600 } = {}) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ _id: userId, iat: now, exp: now + ttlSeconds })}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

// A client of the user without a browser, greeted when this is there. It polls no more, and is there for as long as a
// client may be silent.
export async function connectAs({ origin }, userId) {
  const url = `${origin}/socket.io/?EIO=4&transport=polling`;
  const ask = async (address, body) => {
    const response = await fetch(address, { ...(body && { method: 'POST', body }), signal: AbortSignal.timeout(10_000) });
    return response.text();
  };
  const { sid } = JSON.parse((await ask(url)).slice(1));
  const own = `${url}&sid=${sid}`;
  await ask(own, `40${JSON.stringify({ token: mint(userId) })}`);
  for (let said = ''; !said.includes('42["connected"');) {
    said = await ask(own);
    if (said.startsWith('44')) throw new Error(said);
  }
}

// A Redis of its own until the test ends: its port. `null`: this machine has none.
export async function startRedis(test) {
  const port = await freePort();
  const child = spawn('redis-server', ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], { stdio: ['ignore', 'pipe', 'ignore'] });
  test.after(() => child.kill('SIGKILL'));
  return new Promise((resolve, reject) => {
    child.once('error', () => resolve(null));
    child.once('exit', () => reject(new Error('redis-server has ended')));
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      output += text;
      if (output.includes('Ready to accept connections')) resolve(port);
    });
  });
}

// A port that a server can leave and take again. Below 1024 no outgoing connection can grab it in between (this needs
// root), and 700-899 holds none of the ports that browsers refuse.
export async function reusablePort() {
  if (process.getuid?.() !== 0) return freePort();
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const port = await freePort(700 + Math.floor(Math.random() * 200)).catch(() => null);
    if (port) return port;
  }
  throw new Error('no free port from 700 to 899');
}

// A port that nobody has just now: this one, or any.
export async function freePort(wanted = 0) {
  const probe = net.createServer().listen(wanted);
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}
