// One file of tests on one server: started before, watched after each test, ended after.

import { after, afterEach, before, test } from 'node:test';
import { closeAll } from './engine.mjs';

/** `begin` starts the server. Gives `row(name, body)`; `body` gets the target. */
export function suite(begin, { timeout = 15000, ...settings } = {}) {
  let target;
  before(async () => {
    target = await begin();
  });
  afterEach(() => {
    closeAll();
    target?.assertAlive();
  });
  after(async () => {
    closeAll();
    await target?.stop();
  });
  return (name, body, options = {}) => test(name, { timeout, ...settings, ...options }, () => body(target));
}
