// Traces: spans of a request at one instance and of its delivery by another, as a collector of OpenTelemetry gets them.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { call } from '../lib/api.mjs';
import { closeClients } from '../lib/client.mjs';
import { adapters, assembled, connect, heard, peersAreNode, startNode, startPeer, stopServers } from '../lib/cluster.mjs';
import { Collector } from '../lib/collector.mjs';
import { request } from '../lib/http.mjs';
import { startSockring } from '../lib/program.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { until, within } from '../lib/wait.mjs';

after(closeClients);

const newTrace = () => ({ id: randomBytes(16).toString('hex'), span: randomBytes(8).toString('hex') });
const headers = ({ id, span }, flags = '01') => ({ traceparent: `00-${id}-${span}-${flags}` });
const emit = (target, body, trace, flags) => call(target, 'POST', '/emit', body, trace ? headers(trace, flags) : {});

async function metric(target, line) {
  const { text } = await request(target, '/metrics');
  return Number(text.split('\n').find((other) => other.startsWith(`${line} `))?.split(' ')[1]);
}

const named = (spans, name) => spans.filter((span) => span.name === name);

describe('traces', { timeout: 60000, concurrency: true }, () => {
  for (const adapter of peersAreNode ? [] : adapters) describe(`with the ${adapter} adapter`, { concurrency: false }, () => {
    let scene;

    after(async () => {
      if (!scene) return;
      await stopServers(scene.servers);
      await scene.redis.stop();
      await scene.collector.stop();
    });

    test('an emit is one trace, with the delivery of the other instance in it', async () => {
      const [redis, collector] = [await RedisServer.start(), await Collector.start()];
      const env = { SOCKRING_OTLP_ENDPOINT: collector.url };
      const [A, B, C] = await Promise.all([
        startPeer(redis, { name: 'A', adapter, env }),
        startPeer(redis, { name: 'B', adapter, env }),
        startNode(redis, { name: 'C', adapter }),
      ]);
      scene = { servers: { A, B, C }, redis, collector };
      await assembled(C, 3);
      const [here, there, atNode] = [await connect(A, 'ada'), await connect(B, 'ada'), await connect(C, 'ada')];
      await heard(redis, adapter, [['/', 'user:ada', 3]]);
      const trace = newTrace();
      const answer = await emit(A, { event: 'traced', user: 'ada', data: { n: 1 } }, trace);
      assert.equal(answer.status, 200);
      for (const client of [here, there, atNode]) assert.equal((await client.event('traced')).n, 1);
      const spans = await collector.trace(trace.id, 5);
      assert.equal(spans.length, 5, JSON.stringify(spans));
      const [root] = named(spans, 'POST /api/v1/websocket/emit');
      assert.deepEqual([root.kind, root.parentSpanId], [2, trace.span]);
      assert.equal(root.attributes['http.response.status_code'], 200);
      assert.equal(root.attributes['http.route'], '/api/v1/websocket/emit');
      const [emitted] = named(spans, 'emit');
      assert.deepEqual([emitted.kind, emitted.parentSpanId], [4, root.spanId]);
      assert.deepEqual([emitted.attributes['sockring.delivered'], emitted.attributes['sockring.published']], [1, 1]);
      const [published] = named(spans, 'publish');
      assert.deepEqual([published.kind, published.parentSpanId, published.attributes['sockring.adapter']], [3, emitted.spanId, adapter]);
      const own = named(spans, 'deliver').find((span) => span.resource['service.instance.id'] === root.resource['service.instance.id']);
      assert.deepEqual([own.kind, own.parentSpanId, own.links, own.attributes['sockring.delivered']], [5, emitted.spanId, undefined, 1]);
      const elsewhere = named(spans, 'deliver').find((span) => span !== own);
      assert.notEqual(elsewhere.resource['service.instance.id'], root.resource['service.instance.id']);
      assert.deepEqual([elsewhere.kind, elsewhere.parentSpanId, elsewhere.attributes['sockring.delivered']], [5, emitted.spanId, 1]);
      assert.deepEqual(elsewhere.links.map((link) => [link.traceId, link.spanId]), [[trace.id, emitted.spanId]]);
      for (const span of spans) assert.ok(BigInt(span.startTimeUnixNano) <= BigInt(span.endTimeUnixNano), JSON.stringify(span));
      assert.equal(root.resource['service.name'], 'sockring');
    });

    test('so is one that asks for acknowledgements, and one that is remembered', async () => {
      const { servers: { A }, collector } = scene;
      const [asked, kept] = [newTrace(), newTrace()];
      await emit(A, { event: 'asked', user: 'ada', ack: { timeoutMs: 100 } }, asked);
      await emit(A, { event: 'kept', user: 'ada', ttl: 60, idempotencyKey: 'once' }, kept);
      for (const { id } of [asked, kept]) {
        const spans = await collector.trace(id, 5);
        assert.equal(spans.length, 5, JSON.stringify(spans));
        assert.deepEqual(named(spans, 'deliver').map((span) => span.attributes['sockring.delivered']), [1, 1]);
        assert.equal(named(spans, 'deliver').filter((span) => span.links).length, 1);
      }
    });

    test('what its caller does not record has no spans, and what the caller does not say has a trace of its own', async () => {
      const { servers: { A }, collector } = scene;
      const unrecorded = newTrace();
      const before = collector.spans.length;
      await emit(A, { event: 'unrecorded', user: 'ada' }, unrecorded, '00');
      await emit(A, { event: 'own', user: 'ada' });
      await until(8000, 'a trace of its own', () => new Set(collector.spans.slice(before).map((span) => span.traceId)).size === 1 && collector.spans.length === before + 5);
      assert.ok(collector.spans.slice(before).every((span) => span.traceId !== unrecorded.id));
      assert.deepEqual(collector.faults, []);
      assert.deepEqual(await scene.servers.C.complaints(), []);
    });
  });
});

describe('a collector', { timeout: 60000, concurrency: true, skip: peersAreNode }, () => {
  async function start(t, env = {}) {
    const collector = await Collector.start();
    const target = await startSockring({ SOCKRING_OTLP_ENDPOINT: collector.url, ...env });
    t.after(async () => {
      await target.stop();
      await collector.stop();
    });
    return { collector, target };
  }

  test('that has no time for now gets the same spans again', async (t) => {
    const { collector, target } = await start(t);
    collector.answer = () => ({ status: 503, body: {}, headers: { 'retry-after': '0' } });
    const trace = newTrace();
    await emit(target, { event: 'e', user: 'nobody' }, trace);
    await until(8000, 'two attempts', () => collector.requests >= 2);
    assert.equal(await metric(target, 'sockring_spans_total{end="sent"}'), 0);
    collector.answer = () => ({ status: 200, body: {} });
    const spans = await collector.trace(trace.id, 3);
    assert.deepEqual(spans.map((span) => span.name).sort(), ['POST /api/v1/websocket/emit', 'deliver', 'emit']);
    await until(2000, 'they count as sent', () => metric(target, 'sockring_spans_total{end="sent"}'), (sent) => sent === 3);
  });

  test('that refuses spans has its refusals counted, and a slow one costs no request anything', async (t) => {
    const { collector, target } = await start(t, { SOCKRING_OTLP_SPANS_MAX: '4' });
    collector.answer = () => ({ status: 200, body: { partialSuccess: { rejectedSpans: '2', errorMessage: 'no' } } });
    const trace = newTrace();
    await emit(target, { event: 'e', user: 'nobody' }, trace);
    await until(8000, 'two are refused', () => metric(target, 'sockring_spans_total{end="refused"}'), (refused) => refused === 2);
    assert.equal(await metric(target, 'sockring_spans_total{end="sent"}'), 1);
    // Of 12 spans at once four wait, and no request does.
    collector.answer = () => ({ status: 400, body: {} });
    await Promise.all(Array.from({ length: 4 }, () => emit(target, { event: 'e', user: 'nobody' }, newTrace())));
    await until(8000, 'those that waited are refused', () => metric(target, 'sockring_spans_total{end="refused"}'), (refused) => refused >= 6);
    assert.ok(await metric(target, 'sockring_spans_total{end="queue_full"}') > 0);
  });

  test('has what ended before the process did; who has no key, and what is no request to the API, has no span', async (t) => {
    const { collector, target } = await start(t);
    const trace = newTrace();
    assert.equal((await request(target, '/api/v1/websocket/stats', { headers: headers(trace) })).status, 401);
    assert.equal((await request(target, '/health', { headers: headers(trace) })).status, 200);
    assert.equal((await call(target, 'POST', '/emit', { event: 'e' }, headers(trace))).status, 422);
    target.signal('SIGTERM');
    await within(5000, 'it ends', target.exited);
    assert.deepEqual(collector.faults, []);
    assert.deepEqual(collector.spans.map((span) => [span.name, span.attributes['http.response.status_code'], span.status.code]), [['POST /api/v1/websocket/emit', 422, undefined]]);
  });
});
