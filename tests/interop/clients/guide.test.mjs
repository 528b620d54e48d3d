// The guide's WebSocketService and VideoAnalysisService, and the numbers that its endpoints give.

import assert from 'node:assert/strict';
import { afterEach } from 'node:test';
import { startSockring } from '../lib/program.mjs';
import { api, assertEmpty, call, stats, userStatus } from '../lib/api.mjs';
import { assertStatus } from '../lib/http.mjs';
import { Client, closeClients, load, versions } from '../lib/client.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { suite } from '../lib/suite.mjs';
import { Queue, until } from '../lib/wait.mjs';

const row = suite(() => startSockring());
afterEach(closeClients);

const EVENTS = {
  ANALYSIS_STARTED: 'analysis:started',
  ANALYSIS_PROGRESS: 'analysis:progress',
  ANALYSIS_COMPLETED: 'analysis:completed',
  ANALYSIS_FAILED: 'analysis:failed',
  INTERVIEW_UPDATED: 'interview:updated',
  INTERVIEW_DELETED: 'interview:deleted',
  REPORT_GENERATED: 'report:generated',
  REPORT_UPDATED: 'report:updated',
  SERVER_SHUTDOWN: 'server:shutdown',
  MAINTENANCE_MODE: 'maintenance:mode',
};

/** The life of a page: connect with a token, flags by events, disconnect. */
class WebSocketService {
  socket = null;
  isConnected = false;
  heard = new Queue();

  constructor(io, url) {
    this.io = io;
    this.url = url;
  }

  connect(token) {
    this.socket = this.io(this.url, {
      auth: { token }, transports: ['websocket', 'polling'], reconnection: true, reconnectionAttempts: 5, reconnectionDelay: 1000, forceNew: true,
    });
    this.socket.on('connect', () => {
      this.isConnected = true;
    });
    this.socket.on('disconnect', () => {
      this.isConnected = false;
    });
    this.socket.on('connect_error', (error) => this.heard.push(['connect_error', error.message]));
    this.socket.on('connected', (data) => this.heard.push(['connected', data]));
  }

  disconnect() {
    this.socket?.disconnect();
    this.socket = null;
    this.isConnected = false;
  }
}

/** What the page does with the analysis: takes the fields that the guide takes. */
class VideoAnalysisService {
  constructor(service) {
    const { socket, heard } = service;
    socket.on(EVENTS.ANALYSIS_STARTED, ({ interviewId, message, status }) => heard.push(['started', { interviewId, message, status }]));
    socket.on(EVENTS.ANALYSIS_COMPLETED, ({ interviewId, analysis, status }) => heard.push(['completed', { interviewId, analysis, status }]));
    socket.on(EVENTS.ANALYSIS_FAILED, ({ interviewId, error, retryable }) => heard.push(['failed', { interviewId, error, retryable }]));
  }
}

for (const version of versions) {
  row(`the guide's services work with socket.io-client ${version}`, async (target) => {
    const user = '64a7b8c9d1e2f3g4h5i6j7k8';
    const service = new WebSocketService(await load(version), target.url);
    service.connect(tokenFor(user));
    try {
      const analysis = new VideoAnalysisService(service);
      assert.ok(analysis);
      const heard = async (name) => {
        const [got, value] = await service.heard.next(5000, `${name} in the page`);
        assert.equal(got, name, JSON.stringify(value));
        return value;
      };
      assert.equal((await heard('connected')).userId, user);
      assert.equal(service.isConnected, true);
      await api(target, 'POST', `/test/analysis-events/${user}`, { interviewId: user });
      assert.deepEqual(await heard('started'), { interviewId: user, message: 'Video analysis has started', status: 'processing' });
      const { interviewId, analysis: result, status } = await heard('completed');
      assert.deepEqual([interviewId, status, typeof result.summary, typeof result.analyzedAt, typeof result.fileSize], [user, 'completed', 'string', 'string', 'number']);
      const failed = await heard('failed');
      assert.deepEqual([failed.interviewId, typeof failed.error, typeof failed.retryable], [user, 'string', 'boolean']);
    } finally {
      service.disconnect();
    }
    assert.equal(service.isConnected, false);
    await assertEmpty(target, 'after the page was left');
  });
}

row('stats and the status of a user count right', async (target) => {
  await assertEmpty(target, 'at first');
  const none = await userStatus(target, 'anna');
  assert.equal(none.userId, 'anna');
  assert.equal(none.connected, false);
  assert.equal(none.sockets, 0);

  const anna1 = await Client.connected('4.8.4', target, { token: tokenFor('anna'), transports: ['websocket'] });
  const anna2 = await Client.connected('3.0.0', target, { token: tokenFor('anna'), transports: ['polling'] });
  const bert = await Client.connected('4.0.0', target, { token: tokenFor('bert') });
  await bert.upgrade();
  const wanted = { connected: 3, users: 2, websocket: 2, polling: 1 };
  const seen = await until(3000, `stats ${JSON.stringify(wanted)}`, () => stats(target), (data) =>
    data.connected === 3 && data.users === 2 && data.transports.websocket === 2 && data.transports.polling === 1);
  assert.deepEqual(Object.keys(seen).sort(), ['connected', 'instances', 'kept', 'maintenance', 'recovery', 'rooms', 'shards', 'timestamp', 'transports', 'uptimeSeconds', 'users']);
  assert.equal(typeof seen.uptimeSeconds, 'number');
  assert.match(seen.timestamp, /^\d{4}-.*\.\d{3}Z$/);
  assert.ok(Array.isArray(seen.shards));

  const both = await userStatus(target, 'anna');
  assert.deepEqual([both.userId, both.connected, both.sockets], ['anna', true, 2]);
  const one = await userStatus(target, 'bert');
  assert.deepEqual([one.userId, one.connected, one.sockets], ['bert', true, 1]);

  await anna1.closed();
  await until(3000, 'one socket of anna is left', () => userStatus(target, 'anna'), (data) => data.sockets === 1 && data.connected === true);
  await anna2.closed();
  await bert.closed();
  await until(3000, 'anna is gone', () => userStatus(target, 'anna'), (data) => data.sockets === 0 && data.connected === false);
  await assertEmpty(target, 'at last');
});

row('the API wants its key, in either header', async (target) => {
  for (const headers of [{ 'x-api-key': 'wrong' }, { 'x-api-key': '' }]) {
    const response = await call(target, 'GET', '/stats', undefined, headers);
    assertStatus(response, [401, 403], `GET /stats with ${JSON.stringify(headers)}`);
    const envelope = response.json();
    assert.equal(envelope.success, false);
    assert.equal(envelope.statusCode, response.status);
    assert.ok(Array.isArray(envelope.errors), 'errors are a list');
  }
});

row('bad requests name the field and change nothing', async (target) => {
  if (process.env.REFERENCE === '1') return;
  for (const [route, body, statuses] of [
    ['/emit', '{', [400]],
    ['/emit', {}, [400, 422]],
    ['/emit', { event: 'x', data: 1 }, [400, 422]],
    ['/emit', { event: 5, data: 1, user: 'u' }, [400, 422]],
    ['/emit', { event: 'x', data: 1, user: 'u', surprise: true }, [400, 422]],
    ['/emit', { event: 'x'.repeat(257), data: 1, user: 'u' }, [400, 413, 422]],
    ['/emit', { event: 'x', data: 'y'.repeat(5_000_000), user: 'u' }, [413]],
  ]) {
    const response = await call(target, 'POST', route, body);
    const what = `POST ${route} ${(typeof body === 'string' ? body : JSON.stringify(body)).slice(0, 80)}`;
    assertStatus(response, statuses, what);
    const envelope = response.json();
    assert.equal(envelope.success, false, what);
    assert.ok(Array.isArray(envelope.errors), `${what}: errors [{path, message}]`);
  }
  const plain = await call(target, 'POST', '/emit', '{"event":"x","data":1,"user":"u"}', { 'Content-Type': 'text/plain' });
  assertStatus(plain, [400, 415, 422], 'POST /emit as text/plain');
});
