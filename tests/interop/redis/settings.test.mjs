// Redis with a password, with users, with another prefix: sockring and Node find each other.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { closeClients } from '../lib/client.mjs';
import { assembled, connect, peersAreNode, startNode, startPeer } from '../lib/cluster.mjs';
import { request } from '../lib/http.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { until } from '../lib/wait.mjs';

const skip = peersAreNode && 'about sockring';
const PASSWORD = 'p@ss:w/rd';

afterEach(closeClients);

/** Emits both ways between a sockring with `env` and a Node server at `url`. */
async function assertTogether(redis, env, { url = redis.url, prefix } = {}) {
  const A = await startPeer(null, { name: 'A', env });
  const C = await startNode(null, { name: 'C', env: { REDIS_URL: url, ...(prefix ? { PREFIX: prefix } : {}) } });
  try {
    await assembled(C, 2);
    const [here, there] = [await connect(A, 'here'), await connect(C, 'there')];
    await A.emit({ rooms: ['user:there'], args: ['over', 1] });
    assert.equal(await there.event('over'), 1);
    await C.emit({ rooms: ['user:here'], args: ['back', 2] });
    assert.equal(await here.event('back'), 2);
    assert.equal((await A.get('/user/there/status')).sockets, 1);
    assert.equal((await C.ask('fetchSockets')).value?.length, 2);
    assert.match((await request(A, '/ready')).text, /"redis":\s*"up"/);
    assert.ok(!A.said().includes(PASSWORD), 'no password in the log');
  } finally {
    await A.stop();
    await C.stop();
  }
}

test('another prefix', { skip, timeout: 20000 }, async () => {
  const redis = await RedisServer.start();
  try {
    await assertTogether(redis, { REDIS_URL: redis.url, SOCKRING_REDIS_PREFIX: 'my*app' }, { prefix: 'my*app' });
    const channels = await redis.channels();
    assert.deepEqual(channels.filter((one) => one.startsWith('socket.io')), []);
  } finally {
    await redis.stop();
  }
});

test('a password, by REDIS_PASSWORD', { skip, timeout: 20000 }, async () => {
  const redis = await RedisServer.reserve({ requirepass: PASSWORD });
  redis.password = PASSWORD;
  await redis.begin();
  try {
    const url = `redis://:${encodeURIComponent(PASSWORD)}@127.0.0.1:${redis.port}`;
    await assertTogether(redis, { REDIS_HOST: '127.0.0.1', REDIS_PORT: String(redis.port), REDIS_PASSWORD: PASSWORD }, { url });
    const A = await startPeer(null, { name: 'A', env: { REDIS_HOST: '127.0.0.1', REDIS_PORT: String(redis.port), REDIS_PASSWORD: 'wrong' } });
    assert.match((await request(A, '/ready')).text, /"redis":\s*"down"/);
    await until(3000, 'the log says why', () => A.said(), (said) => /WRONGPASS|password|authenticat/i.test(said));
    await A.stop();
  } finally {
    await redis.stop();
  }
});

test('a user with as few commands as it needs, by REDIS_URL (patterns of channels are compared as texts, so it needs all channels)', { skip, timeout: 20000 }, async () => {
  const redis = await RedisServer.start();
  try {
    // Before 6.2 there are no rights of channels: everybody has all.
    const channels = /redis_version:6\.0\./.test(await redis.command('INFO', 'server')) ? [] : ['allchannels'];
    await redis.command('ACL', 'SETUSER', 'bus', 'on', `>${PASSWORD}`, ...channels, '-@all', '+publish', '+subscribe', '+unsubscribe', '+psubscribe', '+punsubscribe', '+ping', '+hello', '+auth', '+info', '+client', '+pubsub', '+cluster');
    const url = `redis://bus:${encodeURIComponent(PASSWORD)}@127.0.0.1:${redis.port}`;
    await assertTogether(redis, { REDIS_URL: url }, { url });
  } finally {
    await redis.stop();
  }
});
