// The shapes of the guide's events: exact fields, types, and the formats inside.

import assert from 'node:assert/strict';

const ISO = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/;

/** `shape`: field -> a type name, 'iso', a nested shape, or a literal in {is}. */
export function assertShape(value, shape, what) {
  assert.equal(typeof value, 'object', `${what}: an object expected, got ${JSON.stringify(value)}`);
  assert.deepEqual(Object.keys(value).sort(), Object.keys(shape).sort(), `${what}: exactly the guide's fields in ${JSON.stringify(value)}`);
  for (const [key, kind] of Object.entries(shape)) {
    const at = `${what}.${key}`;
    if (kind === 'iso') {
      assert.match(value[key], ISO, `${at}: ISO 8601 with milliseconds and Z`);
      assert.ok(Math.abs(Date.parse(value[key]) - Date.now()) < 60000, `${at}: the time of now, got ${value[key]}`);
    } else if (typeof kind === 'string') {
      assert.equal(typeof value[key], kind, `${at}: type`);
      if (kind === 'string') assert.notEqual(value[key], '', `${at}: not empty`);
    } else if ('is' in kind) {
      assert.deepEqual(value[key], kind.is, at);
    } else {
      assertShape(value[key], kind, at);
    }
  }
}

const is = (value) => ({ is: value });
const stamp = (server) => ({ timestamp: 'iso', server: is(server) });

export const shapes = {
  connected: (userId, socketId, server = 'development') => ({ message: 'string', userId: is(userId), socketId: is(socketId), ...stamp(server) }),
  test: (message, server = 'development') => ({ message: is(message), ...stamp(server) }),
  started: (id, server = 'development') => ({ interviewId: is(id), message: is('Video analysis has started'), status: is('processing'), ...stamp(server) }),
  progress: (id, percent, server = 'development') => ({ interviewId: is(id), message: 'string', status: is('processing'), progress: is(percent), ...stamp(server) }),
  completed: (id, server = 'development') => ({
    interviewId: is(id), message: is('Video analysis completed successfully'), status: is('completed'),
    analysis: { summary: 'string', analyzedAt: 'iso', fileSize: 'number' }, ...stamp(server),
  }),
  failed: (id, server = 'development') => ({
    interviewId: is(id), message: is('Video analysis failed'), status: is('failed'), error: 'string', retryable: 'boolean', failedAt: 'iso', ...stamp(server),
  }),
};
