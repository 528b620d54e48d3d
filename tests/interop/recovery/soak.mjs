// Thousands of breaks: real clients in every version, and python-socketio, behind breaking networks. Prints a row per kind of client, and ends with 1 if
// one of them saw what none may see.
//   node recovery/soak.mjs                               10,000 breaks, over both kinds of offsets, 1 and 4 shards
//   node recovery/soak.mjs --breaks 400 --shards 4 --offsets packet --transports polling --cuts bytes --versions 4.8.4
//   REFERENCE=1 node recovery/soak.mjs --breaks 500      the same of the Node server with connectionStateRecovery

import { parseArgs } from 'node:util';
import { request } from '../lib/http.mjs';
import { TRANSPORTS } from '../lib/member.mjs';
import { reference, startSockring } from '../lib/program.mjs';
import { CUTS, FORGETFUL, RECOVERING, faults, kinds, storm, total } from '../lib/storm.mjs';

const OPTIONS = {
  breaks: '10000',
  rate: '200',
  times: '1',
  shards: reference ? '1' : '1,4',
  offsets: reference ? 'argument' : 'packet,argument',
  versions: [...RECOVERING, ...FORGETFUL].join(),
  transports: Object.keys(TRANSPORTS).join(),
  cuts: CUTS.join(),
  namespaces: '/',
  window: '120',
};
const { values } = parseArgs({ options: Object.fromEntries(Object.entries(OPTIONS).map(([name, fallback]) => [name, { type: 'string', default: fallback }])) });
const list = (name) => values[name].split(',');

/** What the server has counted of it, over all shards. */
async function counted(target) {
  const { text } = await request(target, '/metrics');
  const sum = (name, label = '') => text.split('\n').filter((line) => line.startsWith(`${name}{`) && line.includes(label)).reduce((all, line) => all + Number(line.split(' ').at(-1)), 0);
  return {
    recovered: sum('sockring_recoveries_total', 'result="recovered"'),
    taken_over: sum('sockring_taken_over_total'),
    moved: sum('sockring_clients_moved_total'),
  };
}

const runs = list('shards').flatMap((shards) => list('offsets').map((offset) => ({ shards, offset })));
let failed = false;
for (const { shards, offset } of runs) {
  const target = await startSockring({
    SOCKRING_SHARDS: shards,
    SOCKRING_RECOVERY_WINDOW_S: values.window,
    SOCKRING_RECOVERY_OFFSET: offset,
    SOCKRING_NAMESPACES: values.namespaces,
    SOCKRING_PING_INTERVAL_MS: '1000',
    SOCKRING_PING_TIMEOUT_MS: '1000',
  });
  const begun = Date.now();
  const clients = kinds({ versions: list('versions'), transports: list('transports'), cuts: list('cuts'), times: Number(values.times), namespaces: list('namespaces') });
  const { rows, emitted } = await storm(target, clients, { breaks: Math.ceil(Number(values.breaks) / runs.length), rate: Number(values.rate) });
  const counts = reference ? {} : await counted(target);
  await target.stop();
  console.log(`\n${shards} shards, offset as ${offset}: ${emitted} emits in ${Math.round((Date.now() - begun) / 1000)} s`);
  console.table(rows);
  for (const [who, versions] of [['recovering', RECOVERING], ['forgetful', FORGETFUL]]) {
    const theirs = rows.filter((row) => versions.includes(row.version));
    if (theirs.length > 0) console.log(`${who}: ${JSON.stringify(total(theirs))}`);
  }
  console.log(`the server: ${JSON.stringify(counts)}`);
  const wrong = faults(rows, offset);
  for (const line of wrong) console.log(`WRONG: ${line}`);
  failed ||= wrong.length > 0;
}
process.exit(failed ? 1 : 0);
