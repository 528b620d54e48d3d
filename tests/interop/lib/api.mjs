// The HTTP API of sockring, as a backend calls it.

import assert from 'node:assert/strict';
import { apiKey } from './program.mjs';
import { assertStatus, request } from './http.mjs';
import { brief, until } from './wait.mjs';

const ROOT = '/api/v1/websocket';

/** The answer as it is. */
export function call(target, method, route, body, headers = {}) {
  return request(target, ROOT + route, {
    method,
    headers: { 'x-api-key': apiKey, ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...headers },
    body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
  });
}

/** The `data` of an answer that must be 200 in the guide's envelope. */
export async function api(target, method, route, body) {
  const response = await call(target, method, route, body);
  assertStatus(response, 200, `${method} ${ROOT}${route} ${brief(body)}`);
  const envelope = response.json();
  assert.deepEqual(Object.keys(envelope).sort(), ['data', 'message', 'statusCode', 'success'], `${method} ${route}: the envelope of the guide's backend`);
  assert.equal(envelope.statusCode, 200);
  assert.equal(envelope.success, true);
  assert.equal(typeof envelope.message, 'string');
  return envelope.data;
}

export const emit = (target, body) => api(target, 'POST', '/emit', body);
export const stats = (target) => api(target, 'GET', '/stats');
export const userStatus = (target, user) => api(target, 'GET', `/user/${user}/status`);

/** Waits until nobody is connected any more, by any transport. */
export async function assertEmpty(target, what, ms = 8000) {
  await until(ms, `${what}: stats say that nobody is connected`, () => stats(target), (data) => data.connected === 0 && data.transports.websocket === 0 && data.transports.polling === 0);
}
