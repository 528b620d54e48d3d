// Real clients behind networks that break all the time: those that can recover lose nothing, and nobody sees disorder. A few
// seconds of what `soak.mjs` does for minutes.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { notOfReference, startSockring } from '../lib/program.mjs';
import { RECOVERING, faults, kinds, storm, total } from '../lib/storm.mjs';

/** So many, or as many as there are in this time, but fewer say nothing. */
const BREAKS = 150;
const MS_MAX = 8000;
const BREAKS_LEAST = 60;

for (const [offset, shards, versions] of [['packet', '4', ['4.8.4', '4.6.0', '4.0.0']], ['argument', '1', ['4.8.4', '4.7.4', '3.0.0']]]) {
  test(`networks break at any byte, between writes and in silence; offset as ${offset}, ${shards} shards`, { timeout: 90000, ...notOfReference }, async (t) => {
    const target = await startSockring({
      SOCKRING_SHARDS: shards,
      SOCKRING_RECOVERY_OFFSET: offset,
      SOCKRING_PING_INTERVAL_MS: '1000',
      SOCKRING_PING_TIMEOUT_MS: '1000',
    });
    try {
      const { rows } = await storm(target, kinds({ versions }), { breaks: BREAKS, least: BREAKS_LEAST, ms: MS_MAX, rate: 100 });
      t.diagnostic(JSON.stringify(total(rows)));
      assert.deepEqual(faults(rows, offset), []);
      const { breaks, recovered } = total(rows.filter((row) => RECOVERING.includes(row.version)));
      assert.ok(breaks > BREAKS_LEAST / 4 && recovered > BREAKS_LEAST / 8, `${breaks} breaks and ${recovered} recoveries are not enough to see anything`);
    } finally {
      await target.stop();
    }
  });
}
