// Sessions that go on: what comes back with them and what does not, who may take one over, and what is left of them.

import assert from 'node:assert/strict';
import { notOfReference, startSockring } from '../lib/program.mjs';
import { api, emit, stats, userStatus } from '../lib/api.mjs';
import { request } from '../lib/http.mjs';
import { suite } from '../lib/suite.mjs';
import { Visitor } from '../lib/visitor.mjs';
import { pause, until } from '../lib/wait.mjs';

const WINDOW_S = 2;
const HEARTBEAT_MS = 1000;
const row = suite(() => startSockring({
  SOCKRING_SHARDS: '4',
  SOCKRING_RECOVERY_WINDOW_S: String(WINDOW_S),
  SOCKRING_PING_INTERVAL_MS: String(HEARTBEAT_MS),
  SOCKRING_PING_TIMEOUT_MS: String(HEARTBEAT_MS),
  SOCKRING_NAMESPACES: '/,/admin',
}), { timeout: 60000, ...notOfReference });

let users = 0;
const somebody = () => `session-${(users += 1)}`;
const send = (target, user, ...numbers) => numbers.reduce((before, n) => before.then(() => emit(target, { event: 'n', data: n, user })), Promise.resolve());
const join = (target, body) => api(target, 'POST', '/rooms/join', body);
const leave = (target, body) => api(target, 'POST', '/rooms/leave', body);
const disconnect = (target, body) => api(target, 'POST', '/disconnect', body);

async function metric(target, name, label = '') {
  const { text } = await request(target, '/metrics');
  const lines = text.split('\n').filter((line) => line.startsWith(name) && /[ {]/.test(line[name.length]) && line.includes(label));
  assert.ok(lines.length > 0, `${name} is a metric`);
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

row('who comes back has its id, its rooms and what it missed, in order and once', async (target) => {
  const user = somebody();
  const first = await Visitor.connect(target, user);
  const other = await Visitor.connect(target, somebody());
  await join(target, { socketId: first.sid, room: 'choir' });
  await send(target, user, 1, 2);
  assert.deepEqual(await first.all(), [1, 2]);
  await first.cut();
  await send(target, user, 3);
  await emit(target, { event: 'n', data: 4, room: 'choir' });
  await emit(target, { event: 'n', data: 5, broadcast: true });
  await emit(target, { event: 'n', data: 'not for it', user: other.user });
  await emit(target, { event: 'n', data: 'not for it', broadcast: true, except: [`user:${user}`] });
  await emit(target, { event: 'n', data: 'volatile', user, volatile: true });
  const second = await first.back();
  assert.equal(second.recovered, true);
  assert.deepEqual([second.sid, second.pid], [first.sid, first.pid]);
  await emit(target, { event: 'n', data: 6, room: 'choir' });
  assert.deepEqual(await second.all(), [3, 4, 5, 6]);
  assert.deepEqual(await emit(target, { event: 'n', data: 7, room: first.sid }), { delivered: 1, published: false }, 'its old id reaches it');
});

row('a room that it has left, or that it joins while away, is not among its rooms', async (target) => {
  const user = somebody();
  const first = await Visitor.connect(target, user);
  await join(target, { user, room: 'left' });
  await leave(target, { user, room: 'left' });
  await first.all();
  await first.leave();
  await join(target, { user, room: 'too-late' });
  for (const room of ['left', 'too-late']) await emit(target, { event: 'n', data: room, room });
  const second = await first.back();
  assert.equal(second.recovered, true);
  for (const room of ['left', 'too-late']) await emit(target, { event: 'n', data: room, room });
  assert.deepEqual(await second.all(), []);
});

row('events of a room from before it joined are not its own', async (target) => {
  const user = somebody();
  const first = await Visitor.connect(target, user);
  const member = await Visitor.connect(target, somebody());
  await join(target, { user: member.user, room: 'later' });
  await emit(target, { event: 'n', data: 'before', room: 'later' });
  await join(target, { user, room: 'later' });
  await emit(target, { event: 'n', data: 'after', room: 'later' });
  await first.all();
  await first.cut();
  // As one whose every marker was lost: everything since its session's start.
  const second = await first.back({ offset: undefined });
  assert.equal(second.recovered, true);
  assert.deepEqual(await second.all(), ['after']);
});

row('after a disconnect by the API the user\'s events come, but not the socket with its rooms', async (target) => {
  const [plain, joined] = [await Visitor.connect(target, somebody()), await Visitor.connect(target, somebody())];
  await join(target, { user: joined.user, room: 'gone' });
  for (const visitor of [plain, joined]) {
    await visitor.all();
    await disconnect(target, { user: visitor.user });
    await visitor.cut();
    await send(target, visitor.user, 1);
  }
  await emit(target, { event: 'n', data: 'gone', room: 'gone' });
  assert.equal((await plain.back()).recovered, true);
  const fresh = await joined.back();
  assert.equal(fresh.recovered, false, 'its rooms are gone, and it is told');
  assert.notEqual(fresh.sid, joined.sid);
  assert.deepEqual(await fresh.all(), [1], 'what its user missed is sent all the same');
});

row('nothing was emitted to it, and its rooms are long silent: it is recovered all the same', async (target) => {
  const first = await Visitor.connect(target, somebody());
  await first.cut();
  await send(target, first.user, 1);
  const second = await first.back();
  assert.equal(second.recovered, true);
  assert.deepEqual(await second.all(), [1]);
});

row('who had its last event longer ago than the window is recovered, by the heartbeats\' markers', async (target) => {
  const [quiet, busy] = [await Visitor.connect(target, somebody()), await Visitor.connect(target, somebody())];
  const aged = WINDOW_S * 1000 + 3 * HEARTBEAT_MS;
  const begun = Date.now();
  while (Date.now() - begun < aged) {
    await send(target, busy.user, 1);
    await pause(100);
  }
  await quiet.cut();
  await send(target, quiet.user, 2);
  const second = await quiet.back();
  assert.equal(second.recovered, true);
  assert.deepEqual(await second.all(), [2]);
});

row('a half-open connection is taken over, and what was sent into it comes', async (target) => {
  const user = somebody();
  const first = await Visitor.connect(target, user);
  await send(target, user, 1);
  await first.all();
  const { offset } = first;
  // These reach the old connection, and its client is not there any more to read them.
  await send(target, user, 2, 3);
  const second = await first.back({ offset });
  assert.equal(second.recovered, true);
  assert.equal(second.sid, first.sid);
  await until(2000, 'the older one is closed', () => first.client.closeCode, (code) => code !== null, 5);
  assert.deepEqual(await second.all(), [2, 3]);
  assert.equal((await userStatus(target, user)).sockets, 1);
});

row('fifty that come with one pid at once: the session ends at one of them, and goes on', async (target) => {
  const user = somebody();
  const first = await Visitor.connect(target, user);
  await send(target, user, 1);
  await first.all();
  const { pid, offset } = first;
  const storm = await Promise.all(Array.from({ length: 50 }, () => Visitor.knock(target, user, { pid, offset })));
  await until(5000, 'one is left', () => storm.filter((one) => !one.gone).length, (left) => left === 1, 20);
  assert.equal((await userStatus(target, user)).sockets, 1);
  const [left] = storm.filter((one) => !one.gone);
  await until(2000, 'it is greeted', () => left.welcome, (welcome) => welcome !== null, 5);
  assert.equal(left.recovered, true);
  await send(target, user, 2);
  assert.deepEqual(await left.all(), [2]);
});

row('a page that is reloaded, as any client without a pid, is somebody new, and what came meanwhile is lost', async (target) => {
  const first = await Visitor.connect(target, somebody());
  await first.all();
  await first.cut();
  await send(target, first.user, 1);
  const second = await first.back({ pid: undefined });
  assert.equal(second.recovered, false);
  assert.notEqual(second.sid, first.sid);
  assert.deepEqual(await second.all(), []);
});

row('where there was no room to remember all, nothing is told in part, and who missed it starts anew and is told so', async () => {
  const target = await startSockring({ SOCKRING_SHARDS: '1', SOCKRING_RECOVERY_BYTES_MAX: '20000' });
  try {
    const [lucky, late] = [await Visitor.connect(target, somebody()), await Visitor.connect(target, somebody())];
    await Promise.all([lucky.all(), late.all()]);
    await late.cut();
    for (let n = 0; n < 100; n += 1) await emit(target, { event: 'n', args: [n, 'x'.repeat(300)], broadcast: true });
    await lucky.all();
    await lucky.cut();
    await send(target, lucky.user, 100);
    assert.equal((await late.back()).recovered, false);
    assert.equal(await metric(target, 'sockring_recoveries_total', 'result="too_old"'), 1);
    const back = await lucky.back();
    assert.equal(back.recovered, true);
    assert.deepEqual(await back.all(), [100]);
  } finally {
    await target.stop();
  }
});

row('two sockets of one user have a session each', async (target) => {
  const user = somebody();
  const [left, right] = [await Visitor.connect(target, user), await Visitor.connect(target, user)];
  assert.notEqual(left.pid, right.pid);
  await send(target, user, 1);
  await Promise.all([left.all(), right.all()]);
  await left.cut();
  await send(target, user, 2);
  await right.all();
  await right.cut();
  await send(target, user, 3);
  const [left2, right2] = [await left.back(), await right.back()];
  assert.deepEqual([left2.recovered, right2.recovered], [true, true]);
  assert.deepEqual([left2.sid, right2.sid], [left.sid, right.sid]);
  const got = (events) => events.filter((n) => typeof n === 'number');
  assert.deepEqual(got(await left2.all()), [2, 3]);
  assert.deepEqual(got(await right2.all()), [3]);
});

row('a socket in each of two namespaces: each pid is of its own', async (target) => {
  const user = somebody();
  const [main, admin] = [await Visitor.connect(target, user), await Visitor.connect(target, user, { namespace: '/admin' })];
  await Promise.all([main.all(), admin.all()]);
  await Promise.all([main.cut(), admin.cut()]);
  await emit(target, { event: 'n', data: 'main', user });
  await emit(target, { event: 'n', data: 'admin', user, namespace: '/admin' });
  const strayed = await Visitor.connect(target, user, { pid: main.pid, offset: main.offset, namespace: '/admin' });
  assert.equal(strayed.recovered, false);
  assert.deepEqual(await strayed.all(), []);
  const [main2, admin2] = [await main.back(), await admin.back()];
  assert.deepEqual([main2.recovered, admin2.recovered], [true, true]);
  assert.deepEqual(await main2.all(), ['main']);
  assert.deepEqual(await admin2.all(), ['admin']);
});

row('a client that comes back 300 times leaves nothing behind', async (target) => {
  let visitor = await Visitor.connect(target, somebody());
  const { sid } = visitor;
  for (let time = 0; time < 300; time += 1) {
    // Every other one takes over, the rest has ended before.
    if (time % 2 === 0) await visitor.cut();
    visitor = await visitor.back();
    assert.equal(visitor.recovered, true, `return ${time}`);
    assert.equal(visitor.sid, sid);
  }
  assert.equal((await stats(target)).connected, 1);
  await visitor.cut();
});

row('of those, and of many who came once, nothing is left when the window is over', async (target) => {
  for (let round = 0; round < 20; round += 1) {
    const visitors = await Promise.all(Array.from({ length: 100 }, () => Visitor.connect(target, somebody())));
    await Promise.all(visitors.map(async (visitor) => {
      await emit(target, { event: 'n', data: 'x'.repeat(200), user: visitor.user });
      await visitor.cut();
    }));
  }
  assert.ok(await metric(target, 'sockring_recovery_events') > 0);
  await empties(target);
});

/** Log, rooms without members and sessions are forgotten once the window is over. */
async function empties(target) {
  const ms = (WINDOW_S + 4) * 1000 + 3 * HEARTBEAT_MS;
  await until(ms, 'nothing is left', async () => ({
    connected: (await stats(target)).connected,
    rooms: (await stats(target)).rooms,
    lingering: await metric(target, 'sockring_lingering_rooms'),
    events: await metric(target, 'sockring_recovery_events'),
    bytes: await metric(target, 'sockring_recovery_bytes'),
  }), (left) => Object.values(left).every((count) => count === 0), 200);
}
