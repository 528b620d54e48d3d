// What one client has got of numbered events, and what is wrong about it.

import { isMarker } from './marker.mjs';

export class Ledger {
  /** Numbers in the order in which they came, each once. */
  #seen = new Set();
  #last = -1;
  #greatest = -1;
  /** Since the last CONNECT answer: whether an event came, and whether a marker stands behind the last one. */
  #first = true;
  #marked = true;
  outOfOrder = [];
  /** Came again as the first after a break, and had been the last before it, its marker cut off: the price of markers. */
  repeated = [];
  /** Came again in any other way. */
  doubled = [];
  /** Connections after the first: those that were recovered, and those that were not. */
  recovered = 0;
  fresh = 0;
  /** A recovered socket keeps its id, one that is not has another. */
  wrongIds = 0;
  markers = 0;
  #id = null;

  connected(id, recovered) {
    if (this.#id !== null) {
      if (recovered) this.recovered += 1;
      else this.fresh += 1;
      if ((id === this.#id) !== recovered) this.wrongIds += 1;
    }
    this.#id = id;
    this.#first = true;
  }

  heard(name) {
    if (!isMarker(name)) return;
    this.markers += 1;
    this.#marked = true;
  }

  got(number) {
    const cutOff = this.#first && !this.#marked && number === this.#last;
    if (this.#seen.has(number)) (cutOff ? this.repeated : this.doubled).push(number);
    else if (number < this.#greatest) this.outOfOrder.push(number);
    this.#seen.add(number);
    this.#greatest = Math.max(this.#greatest, number);
    this.#last = number;
    this.#first = false;
    this.#marked = false;
  }

  has(number) {
    return this.#seen.has(number);
  }

  /** Of the numbers that were for it, those that never came. */
  lost(expected) {
    return [...expected].filter((number) => !this.#seen.has(number));
  }

  /** Those that came and were not for it. */
  foreign(expected) {
    return [...this.#seen].filter((number) => !expected.has(number));
  }
}
