// Bounded waiting: every promise of this package ends in time, with words that say what was missing.

/** Gives what `promise` gives, or fails after `ms` with `what` (a string, or a function called at that moment). */
export async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => {
      const words = typeof what === 'function' ? what() : what;
      reject(new Error(`not within ${ms} ms: ${words}`));
    }, ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks `probe` again and again until `done` says yes; fails after `ms` with the last answer. */
export async function until(ms, what, probe, done = Boolean, every = 50) {
  const end = Date.now() + ms;
  for (;;) {
    const answer = await probe();
    if (done(answer)) return answer;
    if (Date.now() > end) {
      throw new Error(`not within ${ms} ms: ${what}; last seen: ${JSON.stringify(answer)}`);
    }
    await pause(every);
  }
}

/** For the few rows where the passing of time itself is the demand. */
export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Waits until it is time for the next of so many a second, when `sent` have been since `begun` (of `performance.now()`). */
export async function paced(begun, sent, rate) {
  const late = performance.now() - begun - (sent * 1000) / rate;
  if (late < 0) await pause(-late);
}

/** A queue with one reader at a time: `push` now, `next` later, or the other way round. */
export class Queue {
  #items = [];
  #readers = [];
  #ended = null;
  seen = [];

  push(item) {
    this.seen.push(item);
    const reader = this.#readers.shift();
    if (reader) reader.resolve(item);
    else this.#items.push(item);
  }

  /** Nothing more will come: readers that wait fail with `error`. */
  end(error) {
    this.#ended = error;
    for (const reader of this.#readers.splice(0)) reader.reject(new Error(`${words(reader.what)}: ${error.message}`));
  }

  get size() {
    return this.#items.length;
  }

  next(ms, what) {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift());
    if (this.#ended) return Promise.reject(new Error(`${words(what)}: ${this.#ended.message}`));
    const reader = { what };
    const promise = new Promise((resolve, reject) => Object.assign(reader, { resolve, reject }));
    this.#readers.push(reader);
    return within(ms, () => {
      this.#readers = this.#readers.filter((one) => one !== reader);
      return words(what);
    }, promise);
  }
}

function words(what) {
  return typeof what === 'function' ? what() : what;
}

/** One line of at most 200 characters for a failure message. */
export function brief(value) {
  const text = Buffer.isBuffer(value) ? `<bin ${value.toString('hex')}>` : JSON.stringify(value);
  return text === undefined ? 'undefined' : text.length > 200 ? `${text.slice(0, 200)}...` : text;
}
