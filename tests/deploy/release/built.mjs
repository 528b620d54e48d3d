// What a release has, built: `tests/all release`. STATIC_BIN is the static binary, DEB the package of it.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, it } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { io } from 'socket.io-client';
import { SECRET, mint } from '../../browser/support/server.js';

const { STATIC_BIN, DEB } = process.env;
const SIZE_MAX = 16 * 1024 * 1024;
const skip = process.getuid() !== 0 && 'only root may use another root';
// Of the image: nobody.
const NOBODY = '65532:65532';

let folder;
before(() => { folder = mkdtempSync(path.join(os.tmpdir(), 'sockring-release-')); });
after(() => rmSync(folder, { recursive: true, force: true }));

// The server in a root of its own, as a container has it; answers its port once it listens.
async function serveIn(t, root, program, settings) {
  const env = { PATH: process.env.PATH, PORT: '0', ACCESS_TOKEN_SECRET: SECRET, SOCKRING_DRAIN: '0', ...settings };
  const child = spawn('chroot', [`--userspec=${NOBODY}`, root, program, 'serve'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(child, 'close');
  t.after(() => {
    child.kill('SIGTERM');
    return ended;
  });
  let output = '';
  return new Promise((resolve, reject) => {
    ended.then(() => reject(new Error(output)));
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        output += text;
        const match = /listening on http:\/\/[^ ]*:(\d+)/.exec(output);
        if (match) resolve(Number(match[1]));
      });
    }
  });
}

it('the binary is static, stripped and small', () => {
  const headers = execFileSync('readelf', ['--wide', '--program-headers', '--sections', STATIC_BIN], { encoding: 'utf8' });
  assert.doesNotMatch(headers, /\bINTERP\b/, 'it needs no loader');
  assert.doesNotMatch(headers, /\.debug_info/);
  const { size } = statSync(STATIC_BIN);
  console.log(`${(size / 1024 / 1024).toFixed(1)} MiB`);
  assert.ok(size < SIZE_MAX, `${size} bytes`);
});

it('it serves where there is nothing else, as the image has it, and finds Redis by its name', { skip }, async (t) => {
  const root = path.join(folder, 'image');
  mkdirSync(path.join(root, 'etc'), { recursive: true });
  copyFileSync(STATIC_BIN, path.join(root, 'sockring'));
  // A container's runtime makes these.
  mkdirSync(path.join(root, 'dev'));
  execFileSync('mknod', ['-m', '666', path.join(root, 'dev/urandom'), 'c', '1', '9']);
  execFileSync('mknod', ['-m', '666', path.join(root, 'dev/random'), 'c', '1', '8']);
  writeFileSync(path.join(root, 'etc/hosts'), '127.0.0.1 redis-of-this-test\n');
  const redis = net.createServer((connection) => connection.destroy()).listen(0, '127.0.0.1');
  t.after(() => redis.close());
  await once(redis, 'listening');
  const asked = once(redis, 'connection');
  const port = await serveIn(t, root, '/sockring', { REDIS_URL: `redis://redis-of-this-test:${redis.address().port}` });
  await asked;
  for (const transports of [['websocket'], ['polling', 'websocket']]) {
    const socket = io(`http://127.0.0.1:${port}`, { auth: { token: mint('alice') }, transports, forceNew: true });
    t.after(() => socket.disconnect());
    await once(socket, 'connect');
    const heard = once(socket, 'report:updated');
    const answer = await fetch(`http://127.0.0.1:${port}/api/v1/websocket/emit`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ user: 'alice', event: 'report:updated', data: { n: 1 } }),
    });
    assert.equal(answer.status, 200);
    assert.equal((await heard)[0].n, 1);
  }
});

it('the package has what it should, and nothing writable', () => {
  const fields = execFileSync('dpkg-deb', ['--field', DEB], { encoding: 'utf8' });
  assert.match(fields, /^Package: sockring$/m);
  assert.doesNotMatch(fields, /^Depends: .*libc6/m, 'a static binary needs no C library');
  const contents = execFileSync('dpkg-deb', ['--contents', DEB], { encoding: 'utf8' }).trim().split('\n');
  const files = new Map(contents.map((line) => [line.split(/\s+/)[5].replace(/^\./, ''), line.slice(0, 10)]));
  for (const [name, mode] of Object.entries({
    '/usr/bin/sockring': '-rwxr-xr-x',
    '/usr/lib/systemd/system/sockring.service': '-rw-r--r--',
    '/usr/lib/systemd/system/sockring.socket': '-rw-r--r--',
    '/usr/lib/sysusers.d/sockring.conf': '-rw-r--r--',
    '/usr/share/bash-completion/completions/sockring': '-rw-r--r--',
    '/usr/share/zsh/vendor-completions/_sockring': '-rw-r--r--',
    '/usr/share/fish/vendor_completions.d/sockring.fish': '-rw-r--r--',
    '/usr/share/man/man1/sockring.1.gz': '-rw-r--r--',
    // Its user reads it: secrets are in files of their own.
    '/etc/sockring/sockring.toml': '-rw-r--r--',
  })) assert.equal(files.get(name), mode, name);
});

it('it is installed, is complete, and goes without a trace', { skip }, (t) => {
  const root = path.join(folder, 'debian');
  mkdirSync(path.join(root, 'var/lib/dpkg/info'), { recursive: true });
  mkdirSync(path.join(root, 'etc'));
  for (const file of ['var/lib/dpkg/status', 'etc/passwd', 'etc/group']) writeFileSync(path.join(root, file), '');
  const dpkg = (...args) => {
    const done = spawnSync('dpkg', [`--root=${root}`, '--force-script-chrootless', '--force-depends', '--force-not-root', ...args], { encoding: 'utf8' });
    assert.equal(done.status, 0, done.stdout + done.stderr);
  };
  dpkg('--install', DEB);
  assert.match(readFileSync(path.join(root, 'etc/passwd'), 'utf8'), /^sockring:/m, 'the user of the unit is there');
  const read = (name) => readFileSync(path.join(root, name));
  assert.match(gunzipSync(read('usr/share/man/man1/sockring.1.gz')).toString(), /^\.TH sockring 1/m);
  execFileSync('bash', ['-n', path.join(root, 'usr/share/bash-completion/completions/sockring')]);
  // The settings as they come are the defaults, and the server takes them.
  const args = [root, '/usr/bin/sockring', 'config', 'show', '--config', '/etc/sockring/sockring.toml'];
  execFileSync('chroot', args, { env: { PATH: process.env.PATH }, stdio: 'pipe' });
  dpkg('--purge', 'sockring');
  for (const file of ['usr/bin/sockring', 'etc/sockring', 'usr/lib/systemd/system/sockring.service']) {
    assert.ok(!existsSync(path.join(root, file)), `${file} is gone`);
  }
});
