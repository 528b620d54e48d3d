// Two instances and two Node servers on one stream: clients hop between them at random under events, and each process is killed in
// turn. Prints one line of JSON: what was lost and what came twice, of clients that stay with ours (`settled`), where there must be
// nothing, and of those that go to Node servers too (`roaming`; `--ours 0 --nodes 4` says what Node alone does). Needs redis-server.
//   node recovery/hopping.mjs --seconds 300 --rate 500 --clients 100 --killEvery 5000

import { hopping } from '../lib/hopping.mjs';
import { options } from '../redis/load/common.mjs';

const { seconds, rate, clients, ours, nodes, hopEvery, killEvery, broadcastEvery } = options({
  seconds: 300, rate: 500, clients: 100, ours: 2, nodes: 2, hopEvery: 50, killEvery: 5000, broadcastEvery: 100,
});
const result = await hopping({ ours, nodes, clients, rate, ms: seconds * 1000, hopEvery, killEvery, broadcastEvery });
console.log(JSON.stringify(result));
process.exit(result.settled.lost + result.settled.doubled === 0 ? 0 : 1);
