// What asks for the package by require, as Jest does without flags, gets all of it.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { it } from 'node:test';

const require = createRequire(import.meta.url);

it('every entry can be required, and they share one core', () => {
  const { createClient } = require('@sockring/client');
  const { SockringProvider } = require('@sockring/client/react');
  const vue = require('@sockring/client/vue');
  const { createFakeClient } = require('@sockring/client/testing');
  assert.deepEqual([createClient, SockringProvider, vue.useEvent].map((one) => typeof one), ['function', 'function', 'function']);

  const client = createFakeClient();
  const heard = [];
  client.on('analysis:completed', ({ interviewId }) => heard.push(interviewId));
  client.connect();
  client.receive('analysis:completed', { interviewId: '42' });
  client.drop();
  assert.deepEqual([heard, client.status.state], [['42'], 'offline']);
});
