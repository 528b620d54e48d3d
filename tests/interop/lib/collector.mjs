// A collector of OpenTelemetry: it takes what is sent by OTLP over HTTP in JSON, and refuses what its schema does not have.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { until } from './wait.mjs';

const hex = (digits) => (value, where) => assert.match(value, new RegExp(`^(?!0+$)[0-9a-f]{${digits}}$`), where);
const text = (value, where) => assert.ok(typeof value === 'string' && value.length > 0, where);
/** 64-bit numbers are texts in the JSON of Protocol Buffers. */
const fixed64 = (value, where) => assert.match(value, /^[1-9][0-9]{0,19}$/, where);
const uint32 = (value, where) => assert.ok(Number.isInteger(value) && value >= 0 && value < 2 ** 32, where);
const between = (least, most) => (value, where) => assert.ok(Number.isInteger(value) && value >= least && value <= most, where);
const list = (shape) => (value, where) => {
  assert.ok(Array.isArray(value), where);
  value.forEach((item, index) => shape(item, `${where}[${index}]`));
};
/** All of `required`, and of `optional` what is there; nothing else. */
const message = (required, optional = {}) => (value, where) => {
  assert.ok(value !== null && typeof value === 'object' && !Array.isArray(value), where);
  for (const name of Object.keys(required)) assert.ok(name in value, `${where}.${name} is missing`);
  for (const [name, inner] of Object.entries(value)) {
    const shape = required[name] ?? optional[name];
    assert.ok(shape, `${where}.${name} is no field`);
    shape(inner, `${where}.${name}`);
  }
};

const anyValue = (value, where) => {
  message({}, {
    stringValue: (inner, at) => assert.equal(typeof inner, 'string', at),
    intValue: (inner, at) => assert.match(inner, /^-?[0-9]{1,19}$/, at),
    boolValue: (inner, at) => assert.equal(typeof inner, 'boolean', at),
  })(value, where);
  assert.equal(Object.keys(value).length, 1, `${where} is one of`);
};
const attributes = (value, where) => {
  list(message({ key: text, value: anyValue }))(value, where);
  const keys = value.map(({ key }) => key);
  assert.equal(new Set(keys).size, keys.length, `${where}: keys are unique`);
};
/** `ExportTraceServiceRequest` of opentelemetry-proto 1.x, as far as anybody fills it in. */
const exportRequest = message({
  resourceSpans: list(message({
    resource: message({ attributes }),
    scopeSpans: list(message({
      scope: message({ name: text, version: text }),
      spans: list(message({
        traceId: hex(32),
        spanId: hex(16),
        name: text,
        kind: between(1, 5),
        startTimeUnixNano: fixed64,
        endTimeUnixNano: fixed64,
      }, {
        parentSpanId: hex(16),
        flags: uint32,
        attributes,
        links: list(message({ traceId: hex(32), spanId: hex(16) }, { flags: uint32, attributes })),
        status: message({}, { code: between(0, 2), message: text }),
      })),
    })),
  })),
});

const plain = (pairs) => Object.fromEntries(pairs.map(({ key, value: { stringValue, intValue, boolValue } }) => [key, stringValue ?? boolValue ?? Number(intValue)]));

/** Spans as they came, with `attributes` and their `resource`'s as objects. */
export class Collector {
  spans = [];
  requests = 0;
  faults = [];
  /** What a request is answered; a status other than 200 keeps nothing of it. */
  answer = () => ({ status: 200, body: {} });

  static async start() {
    const collector = new Collector();
    collector.server = http.createServer((request, response) => {
      const chunks = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('end', () => collector.#take(request, Buffer.concat(chunks), response));
    });
    collector.server.listen(0, '127.0.0.1');
    await once(collector.server, 'listening');
    collector.url = `http://127.0.0.1:${collector.server.address().port}`;
    return collector;
  }

  #take(request, body, response) {
    this.requests += 1;
    const { status, body: answer, headers = {} } = this.answer();
    try {
      assert.equal(`${request.method} ${request.url} ${request.headers['content-type']}`, 'POST /v1/traces application/json');
      const value = JSON.parse(body.toString());
      exportRequest(value, 'request');
      if (status === 200) this.#keep(value);
    } catch (error) {
      this.faults.push(error);
    }
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify(answer));
  }

  #keep({ resourceSpans }) {
    for (const { resource, scopeSpans } of resourceSpans) {
      for (const { spans } of scopeSpans) {
        this.spans.push(...spans.map((span) => ({ ...span, attributes: plain(span.attributes ?? []), resource: plain(resource.attributes) })));
      }
    }
  }

  /** Waits for so many spans of a trace, which come by several requests. */
  async trace(id, count, ms = 8000) {
    const of = () => this.spans.filter((span) => span.traceId === id);
    await until(ms, () => `${count} spans of trace ${id}: ${JSON.stringify(of())}`, of, (spans) => spans.length >= count);
    if (this.faults.length > 0) throw this.faults[0];
    return of();
  }

  async stop() {
    const closed = once(this.server, 'close');
    this.server.close();
    this.server.closeAllConnections();
    await closed;
  }
}
