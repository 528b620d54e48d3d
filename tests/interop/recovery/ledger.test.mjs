// The account itself: each wrong that a client may see is counted, and the price of a marker that was cut off is told from it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ledger } from '../lib/ledger.mjs';
import { faults } from '../lib/storm.mjs';

/** `steps`: a number is an event, `~` its marker, `back` and `new` a connection that was recovered or was not. */
function account(steps, expected = [1, 2, 3]) {
  const ledger = new Ledger();
  ledger.connected('id', false);
  for (const step of steps) {
    if (step === '~') ledger.heard('~AAAAAA1');
    else if (step === 'back') ledger.connected('id', true);
    else if (step === 'new') ledger.connected(`id ${Math.random()}`, false);
    else ledger.got(step);
  }
  const wanted = new Set(expected);
  const { outOfOrder, repeated, doubled, wrongIds, recovered, fresh } = ledger;
  const counts = { outOfOrder: outOfOrder.length, repeated: repeated.length, doubled: doubled.length, lost: ledger.lost(wanted).length, foreign: ledger.foreign(wanted).length, wrongIds, recovered, fresh };
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
}

test('what each history is', () => {
  for (const [steps, counts] of [
    [[1, '~', 2, '~', 3, '~'], {}],
    [[1, '~', 'back', 2, '~', 3], { recovered: 1 }],
    [[1, '~', 2, 'back', 2, '~', 3], { recovered: 1, repeated: 1 }],
    [[1, '~', 2, 'back', 'back', 2, '~', 3], { recovered: 2, repeated: 1 }],
    [[1, '~', 2, '~', 'back', 2, '~', 3], { recovered: 1, doubled: 1 }],
    [[1, 2, '~', 'back', 1, 2, '~', 3], { recovered: 1, doubled: 2 }],
    [[1, '~', 2, 'back', 2, 2, '~', 3], { recovered: 1, repeated: 1, doubled: 1 }],
    [[1, '~', 2, 2, '~', 3], { doubled: 1 }],
    [[1, '~', 3, '~', 2, '~'], { outOfOrder: 1 }],
    [[1, '~', 'back', 3, '~'], { lost: 1, recovered: 1 }],
    [[1, '~', 'new', 3, '~'], { lost: 1, fresh: 1 }],
    [[1, '~', 2, 3, 4], { foreign: 1 }],
  ]) assert.deepEqual(account(steps), counts, steps.join(' '));
});

test('an id that stays without recovery, or changes with it, is wrong', () => {
  const ledger = new Ledger();
  ledger.connected('a', false);
  ledger.connected('b', true);
  ledger.connected('b', false);
  assert.equal(ledger.wrongIds, 2);
});

test('what may not be is said, and what may be is not', () => {
  const row = { version: '4.8.4', transports: 'websocket', cut: 'bytes', breaks: 100, lost: 0, fresh: 0, outOfOrder: 0, repeated: 0, doubled: 0, foreign: 0, wrongIds: 0, expected: 1000 };
  const said = (more, offset = 'packet') => faults([{ ...row, ...more }], offset).length;
  assert.equal(said({}), 0);
  for (const count of ['lost', 'fresh', 'outOfOrder', 'doubled', 'foreign', 'wrongIds']) assert.equal(said({ [count]: 1 }), 1, count);
  assert.equal(said({ repeated: 7 }), 0, 'markers that were cut off');
  assert.equal(said({ repeated: 9 }), 1, 'more of them than a marker\'s share of the bytes');
  assert.equal(said({ repeated: 1 }, 'argument'), 1);
  assert.equal(said({ repeated: 1, cut: 'writes' }), 1);
  assert.equal(said({ repeated: 1, transports: 'polling' }), 1);
  assert.equal(said({ version: '3.0.0', lost: 500, fresh: 90 }), 0, 'a client that cannot recover');
  assert.equal(said({ version: '3.0.0', outOfOrder: 1 }), 1);
});
