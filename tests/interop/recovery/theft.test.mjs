// Forged, old, foreign and repeated `pid`s, made-up offsets: a fresh session at most, never an error, never what is another's.

import assert from 'node:assert/strict';
import { notOfReference, startSockring } from '../lib/program.mjs';
import { api, emit, userStatus } from '../lib/api.mjs';
import { suite } from '../lib/suite.mjs';
import { Visitor } from '../lib/visitor.mjs';

const SETTINGS = { SOCKRING_SHARDS: '4', SOCKRING_USER_CONNECTIONS_MAX: '1', SOCKRING_NAMESPACES: '/,/admin' };
const row = suite(() => startSockring(SETTINGS), { timeout: 60000, ...notOfReference });

let users = 0;
const somebody = () => `owner-${(users += 1)}`;

/** Somebody in a room, with one event read and another missed. */
async function victim(target) {
  const visitor = await Visitor.connect(target, somebody());
  await api(target, 'POST', '/rooms/join', { user: visitor.user, room: `of ${visitor.user}` });
  await emit(target, { event: 'n', data: 'read', user: visitor.user });
  await visitor.all();
  await visitor.leave();
  await emit(target, { event: 'n', data: 'missed', user: visitor.user });
  await emit(target, { event: 'n', data: 'missed in the room', room: `of ${visitor.user}` });
  return visitor;
}

/** The owner finds its session as it left it. */
async function assertUntouched(visitor) {
  const back = await visitor.back();
  assert.equal(back.recovered, true);
  assert.equal(back.sid, visitor.sid);
  assert.deepEqual(await back.all(), ['missed', 'missed in the room']);
}

/** It is let in as somebody new, and gets nothing of the past. */
async function assertFresh(thief, words, owner) {
  assert.equal(thief.recovered, false, words);
  assert.notEqual(thief.sid, owner.sid, words);
  assert.notEqual(thief.pid, owner.pid, words);
  assert.equal(typeof thief.pid, 'string', words);
  assert.deepEqual(await thief.all(), [], words);
  await thief.leave();
}

/** Each letter of it changed by one bit. */
function* altered(text) {
  for (let at = 0; at < text.length; at += 1) {
    const other = text[at] === 'A' ? 'B' : 'A';
    yield text.slice(0, at) + other + text.slice(at + 1);
  }
}

row('another user with a pid that was stolen, and its own token, gets nothing of it', async (target) => {
  const owner = await victim(target);
  for (const offset of [owner.offset, undefined, '', '~']) {
    await assertFresh(await Visitor.connect(target, somebody(), { pid: owner.pid, offset }), `offset ${offset}`, owner);
  }
  await assertUntouched(owner);
});

row('a pid with any letter changed, cut short or drawn out is nobody\'s', async (target) => {
  const owner = await victim(target);
  const texts = [...altered(owner.pid), owner.pid.slice(0, -1), owner.pid.slice(1), `${owner.pid}A`, `${owner.pid}=`, ` ${owner.pid}`, '', '.', 'A'.repeat(44), owner.sid, '\u0000'.repeat(44), '€'.repeat(44)];
  for (const pid of texts) {
    const thief = await Visitor.connect(target, owner.user, { pid, offset: owner.offset });
    // It is the owner's token: what it missed may be nobody else's, but it is not sent without its session.
    await assertFresh(thief, `pid ${JSON.stringify(pid)}`, owner);
  }
});

row('a pid or an offset that is no text is as good as none', async (target) => {
  for (const odd of [null, 0, -1, 1e308, true, [], {}, ['x'], { toString: 1 }, [[[[]]]]]) {
    const owner = await victim(target);
    await assertFresh(await Visitor.connect(target, owner.user, { pid: odd, offset: owner.offset }), `pid ${JSON.stringify(odd)}`, owner);
    const back = await owner.back({ offset: odd });
    assert.equal(back.recovered, true, `offset ${JSON.stringify(odd)}`);
    assert.deepEqual((await back.all()).slice(-2), ['missed', 'missed in the room']);
  }
});

row('an offset that cannot be means the session\'s start, and never more than the session', async (target) => {
  const stranger = await victim(target);
  const later = `~${stranger.offset.slice(1, 4)}zzzzzzzz`;
  const otherEpoch = (offset) => `~${offset[1] === 'A' ? 'B' : 'A'}${offset.slice(2)}`;
  const offsets = [later, '~', '~AAA', '~AAAA', 'x', '', '~'.repeat(100), '~€€€€€€€', 'A'.repeat(15000), '1732412345678-0', 'Q8KjWAP'];
  for (const offset of offsets) {
    const owner = await victim(target);
    const back = await owner.back({ offset });
    assert.equal(back.recovered, true, offset);
    assert.deepEqual(await back.all(), ['read', 'missed', 'missed in the room'], offset.slice(0, 20));
  }
  const owner = await victim(target);
  const back = await owner.back({ offset: otherEpoch(owner.offset) });
  assert.deepEqual(await back.all(), ['read', 'missed', 'missed in the room']);
});

row('the offset of somebody else, from before or after, shows nothing that is not its own', async (target) => {
  const others = await Promise.all(Array.from({ length: 12 }, () => victim(target)));
  for (const other of others) {
    const owner = await victim(target);
    const back = await owner.back({ offset: other.offset });
    const got = await back.all();
    assert.ok([['read', 'missed', 'missed in the room'], ['missed', 'missed in the room']].some((fine) => JSON.stringify(fine) === JSON.stringify(got)), JSON.stringify(got));
  }
});

row('an offset of a megabyte is refused with the CONNECT, and the session is still there', async (target) => {
  const owner = await victim(target);
  for (const name of ['pid', 'offset']) {
    const thief = await Visitor.knock(target, owner.user, { pid: owner.pid, offset: owner.offset, [name]: 'A'.repeat(1 << 20) });
    await thief.client.closed(`a ${name} of a megabyte`);
    assert.equal(thief.answer, null);
  }
  await assertUntouched(owner);
});

row('the pid of a process that has ended is nobody\'s, and no error', async (target) => {
  const before = await startSockring(SETTINGS);
  const old = await Visitor.connect(before, 'traveller');
  await emit(before, { event: 'n', data: 'of the past', user: 'traveller' });
  await old.all();
  await before.stop();
  await assertFresh(await Visitor.connect(target, 'traveller', { pid: old.pid, offset: old.offset }), 'of another process', old);
});

row('with one connection a user, the old one is taken over by its pid, and by nothing else', async (target) => {
  const first = await Visitor.connect(target, somebody());
  await emit(target, { event: 'n', data: 1, user: first.user });
  await first.all();
  const stranger = await Visitor.knock(target, first.user);
  await stranger.client.nextMessage('a refusal');
  assert.match(stranger.frames.join(), /Too many connections/);
  const second = await first.back();
  assert.equal(second.recovered, true);
  assert.equal((await userStatus(target, first.user)).sockets, 1);
  const third = await second.back({ offset: first.offset });
  assert.equal(third.recovered, true);
  assert.deepEqual(await third.all(), []);
});

row('a pid serves again and again, each time from where its client is', async (target) => {
  let owner = await victim(target);
  assert.equal((await owner.back()).recovered, true);
  for (let time = 0; time < 20; time += 1) {
    await emit(target, { event: 'n', data: time, user: owner.user });
    const back = await owner.back({ offset: owner.offset });
    assert.equal(back.recovered, true);
    const got = await back.all();
    assert.equal(got.at(-1), time);
    assert.equal(new Set(got).size, got.length, 'nothing twice');
    await back.cut();
    owner = back;
  }
});
