// One single server as a model: who is in which room, and what each user would have been sent by now. Events are compared with
// it as they come, so that a run may be as long as one likes, and ends at the first that is wrong.

import { brief } from './wait.mjs';

/** Numbers below `below`, always the same ones for a seed. */
export function chances(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** What has been sent to one user by one sender and has not come yet. */
class Stream {
  #wanted = [];
  #at = 0;
  #doubtful = new Set();

  want(number) {
    this.#wanted.push(number);
  }

  /** It may come in its place, or not at all. */
  doubt(number) {
    if (this.#wanted.indexOf(number, this.#at) >= 0) this.#doubtful.add(number);
  }

  get waiting() {
    return this.#wanted.length - this.#at - this.#doubtful.size;
  }

  /** What should have come, when it is not this. */
  take(number) {
    while (this.#wanted[this.#at] !== number && this.#doubtful.delete(this.#wanted[this.#at])) this.#at += 1;
    const wanted = this.#wanted[this.#at];
    if (wanted !== number) return { wanted: wanted ?? 'nothing' };
    this.#doubtful.delete(number);
    this.#at += 1;
    if (this.#at >= 4096) {
      this.#wanted.splice(0, this.#at);
      this.#at = 0;
    }
    return undefined;
  }
}

/** What one sender does to these users, in rooms that no other sender changes. */
export class Model {
  #streams;
  #members;
  #steps = new Map();
  #pick;
  #chance;
  number = 0;
  delivered = 0;
  wrong = null;

  /**
   * `sids`: of each user; `spare`: a room whose members no step is about, where there is one; `single`: who joins and leaves is
   * one user.
   */
  constructor({ name, seed, users, sids, rooms, spare, single = false }) {
    Object.assign(this, { name, users, sids, spare, single, rooms: Array.from({ length: rooms }, (_, index) => `${name}-${index}`) });
    this.#chance = chances(seed);
    this.#pick = (list) => list[this.#chance(list.length)];
    this.#streams = new Map(users.map((user) => [user, new Stream()]));
    this.#members = new Map(this.rooms.map((room) => [room, new Set()]));
    for (const user of users) this.#members.set(`user:${user}`, new Set([user])).set(sids.get(user), new Set([user]));
  }

  /** How many events have still to come to the user that misses most. */
  get waiting() {
    return Math.max(...[...this.#streams.values()].map((stream) => stream.waiting));
  }

  #person() {
    const user = this.#pick(this.users);
    return this.#pick([`user:${user}`, this.sids.get(user)]);
  }

  #somebody() {
    return this.#chance(3) === 0 ? this.#pick(this.rooms) : this.#person();
  }

  #some(most) {
    return Array.from({ length: 1 + this.#chance(most) }, () => this.#somebody());
  }

  #inAny(rooms) {
    return new Set(rooms.flatMap((room) => [...this.#members.get(room)]));
  }

  /** The next step, which the model has done. */
  step() {
    return this.#count(this.#next());
  }

  /** Behind it nothing comes any more. */
  last() {
    return this.#count(this.#emit([], []));
  }

  #count(step) {
    this.#steps.set(this.number, step);
    this.#steps.delete(this.number - 20_000);
    this.number += 1;
    return step;
  }

  #next() {
    const kind = this.#chance(6);
    const isEmit = kind > 1;
    const rooms = this.single && !isEmit ? [this.#person()] : this.#chance(20) === 0 ? [] : this.#some(3);
    if (isEmit) return this.#emit(rooms, this.#chance(4) === 0 ? this.#some(2) : []);
    const reached = rooms.length > 0 ? this.#inAny(rooms) : new Set(this.users);
    const changed = [this.#pick(this.rooms), this.#pick(this.rooms)];
    const but = this.spare ? { except: [this.spare] } : {};
    for (const room of changed) for (const user of reached) this.#members.get(room)[kind === 0 ? 'add' : 'delete'](user);
    return kind === 0 ? ['socketsJoin', { rooms, ...but, join: changed }] : ['socketsLeave', { rooms, ...but, leave: changed }];
  }

  /** With the number of this step. */
  #emit(rooms, except) {
    const without = this.#inAny(except);
    for (const user of rooms.length > 0 ? this.#inAny(rooms) : this.users) if (!without.has(user)) this.#streams.get(user).want(this.number);
    return ['emit', { rooms, except, args: ['e', this.name, this.number] }];
  }

  /** Nobody knows what has become of the emit with this number. */
  perhaps(number) {
    for (const stream of this.#streams.values()) stream.doubt(number);
  }

  /** An event has come to a user. Only the first that is wrong counts: what follows it is out of step. */
  on(user, number) {
    if (this.wrong) return;
    this.delivered += 1;
    const difference = this.#streams.get(user).take(number);
    if (!difference) return;
    const what = (one) => `${one} ${brief(this.#steps.get(one) ?? '')}`;
    this.wrong = `${user} was to get ${what(difference.wanted)}, and got ${what(number)}`;
  }
}
