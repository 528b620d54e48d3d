// A process that holds clients and notes when events come; its parent says which and when.

import { gather } from '../../lib/flock.mjs';

const BUCKET_MS = 0.1;
const BUCKETS = 100_000;

let events = 0;
let wrong = 0;
let latencies = new Uint32Array(BUCKETS);
let seen = null;

const now = () => Number(process.hrtime.bigint()) / 1e6;

/** An event is `["l", number, due in ms]`, or anything else that only counts. */
function onEvent(user, bytes, begin, end) {
  if (bytes[begin + 2] !== 0x6c || bytes[begin + 3] !== 0x22) {
    if (!bytes.subarray(begin, begin + 12).includes('connected')) events += 1;
    return;
  }
  const [, number, due] = JSON.parse(bytes.latin1Slice(begin, end));
  const late = Math.max(0, now() - due);
  latencies[Math.min(BUCKETS - 1, Math.floor(late / BUCKET_MS))] += 1;
  events += 1;
  if (seen[number] === 1) wrong += 1;
  seen[number] = 1;
}

let flock;
const operations = {
  hold: async ({ users }) => {
    flock = await gather(users, onEvent);
    return { took: flock.took };
  },
  reset: ({ numbers = 0 }) => {
    events = 0;
    wrong = 0;
    latencies = new Uint32Array(BUCKETS);
    seen = new Uint8Array(numbers);
  },
  /** Which of so many have not come. */
  missing: () => ({ numbers: [...seen.keys()].filter((number) => seen[number] === 0) }),
  report: () => ({ events, wrong, latencies, gone: flock.gone() }),
};

process.on('message', async ({ operation, spec }) => {
  try {
    process.send({ value: await operations[operation](spec) });
  } catch (error) {
    process.send({ failure: error.stack });
  }
});
process.on('disconnect', () => process.exit());
