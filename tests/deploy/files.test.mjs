// The other files of deploy/: what their own tools say of them.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, it } from 'node:test';
import { io } from 'socket.io-client';
import { BINARY, SECRET, freePort, mint, startServer } from '../browser/support/server.js';

const DEPLOY = new URL('../../deploy/', import.meta.url);
// Of systemd's scale: 10 is a service that may do all, 0 one that may do nothing.
const EXPOSURE_MAX = 2;

let folder;
let metrics;

before(async () => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'sockring-deploy-'));
  const server = await startServer({ ACCESS_TOKEN_SECRET: SECRET, REDIS_URL: 'redis://127.0.0.1:1' });
  metrics = await (await fetch(`${server.origin}/metrics`)).text();
  await server.stop();
});
after(() => rmSync(folder, { recursive: true, force: true }));

const has = (program) => spawnSync(program, ['--help']).error === undefined;
const read = (name) => readFileSync(new URL(name, DEPLOY), 'utf8');

// Names of series: of a histogram those of its parts.
function series() {
  const names = [];
  for (const [, name, type] of metrics.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    if (type === 'histogram') names.push(...['bucket', 'sum', 'count'].map((part) => `${name}_${part}`));
    else names.push(name);
  }
  return new Set(names);
}

function assertNamesExist(text, file) {
  const known = series();
  const named = [...new Set(text.match(/sockring_\w+/g))];
  assert.ok(named.length > 5, `${file} names metrics`);
  assert.deepEqual(named.filter((name) => !known.has(name)), [], `${file} names metrics that there are not`);
}

it('systemd takes the units, and finds little that the service may do', () => {
  const unit = path.join(folder, 'sockring.service');
  writeFileSync(unit, read('sockring.service').replace('ExecStart=/usr/bin/sockring', `ExecStart=${BINARY}`));
  writeFileSync(path.join(folder, 'sockring.socket'), read('sockring.socket'));
  const verified = spawnSync('systemd-analyze', ['verify', '--man=no', unit, path.join(folder, 'sockring.socket')], { encoding: 'utf8' });
  const [, version] = /^systemd (\d+)/.exec(execFileSync('systemctl', ['--version'], { encoding: 'utf8' }));
  // It keeps the type that it knows.
  const older = Number(version) < 253 ? 'Failed to parse service type, ignoring: notify-reload' : 'nothing';
  const complaints = verified.stderr.split('\n').filter((line) => line.includes('sockring') && !line.includes(older));
  assert.deepEqual([verified.status, complaints], [0, []]);
  const security = execFileSync('systemd-analyze', ['security', '--offline=true', unit], { encoding: 'utf8' });
  const exposure = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(security)?.[1]);
  assert.ok(exposure <= EXPOSURE_MAX, `exposure ${exposure}:\n${security}`);
});

it('systemd hands the server its socket', { skip: !has('systemd-socket-activate') && 'there is no systemd-socket-activate' }, async (t) => {
  const port = await freePort();
  // The server is started by the first who connects.
  const args = ['-l', `127.0.0.1:${port}`, '-E', `ACCESS_TOKEN_SECRET=${SECRET}`, '-E', 'SOCKRING_DRAIN=0', BINARY, 'serve'];
  const child = spawn('systemd-socket-activate', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(child, 'close');
  t.after(() => {
    child.kill('SIGTERM');
    return ended;
  });
  await new Promise((resolve) => child.stderr.setEncoding('utf8').on('data', (text) => text.includes('Listening on') && resolve()));
  const socket = io(`http://127.0.0.1:${port}`, { auth: { token: mint('alice') }, forceNew: true });
  t.after(() => socket.disconnect());
  const [{ userId }] = await once(socket, 'connected');
  assert.equal(userId, 'alice');
});

it('Prometheus takes the metrics without a word of complaint', () => {
  const checked = spawnSync('promtool', ['check', 'metrics'], { input: metrics, encoding: 'utf8' });
  assert.deepEqual([checked.status, checked.stdout, checked.stderr], [0, '', '']);
});

it('Prometheus takes the alert rules, and their metrics exist', () => {
  const file = path.join(folder, 'alerts.yml');
  writeFileSync(file, read('prometheus-alerts.yml'));
  execFileSync('promtool', ['check', 'rules', file], { stdio: 'pipe' });
  assertNamesExist(read('prometheus-alerts.yml'), 'prometheus-alerts.yml');
});

it('the Grafana board is one, and its metrics exist', () => {
  const board = JSON.parse(read('grafana.json'));
  const panels = board.panels.filter(({ type }) => type !== 'row');
  assert.ok(panels.length >= 8);
  assert.equal(new Set(board.panels.map(({ id }) => id)).size, board.panels.length, 'each panel has its id');
  for (const { title, targets, fieldConfig } of panels) {
    assert.ok(targets.length > 0 && fieldConfig.defaults.unit, `${title} shows something, with a unit`);
  }
  assertNamesExist(JSON.stringify(board), 'grafana.json');
});
