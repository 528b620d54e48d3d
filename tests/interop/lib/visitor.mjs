// A client in frames that comes back with whatever it likes as `pid` and offset.

import assert from 'node:assert/strict';
import { emit, userStatus } from './api.mjs';
import { WsClient } from './engine.mjs';
import { tokenFor } from './jwt.mjs';
import { isMarker } from './marker.mjs';
import { until } from './wait.mjs';

let barriers = 0;

export class Visitor {
  /** Its events, as [name, ...arguments], without markers; the one that greets is `welcome`. */
  events = [];
  markers = [];
  welcome = null;
  answer = null;

  /** Connects as `user`; what else it says at CONNECT goes into the payload as it is. */
  static async connect(target, user, { namespace = '/', ...payload } = {}) {
    const visitor = await Visitor.knock(target, user, { namespace, ...payload });
    await until(5000, `${user} is let in`, () => visitor.frames, () => visitor.welcome !== null || visitor.gone, 5);
    assert.ok(visitor.welcome, `${user} is let in, and not ${visitor.refusal ?? `closed with ${visitor.client.closeCode}`}`);
    return visitor;
  }

  /** The same, without waiting for an answer. */
  static async knock(target, user, { namespace = '/', ...payload } = {}) {
    const visitor = new Visitor();
    const client = await WsClient.session(target);
    Object.assign(visitor, { target, user, namespace, client, frames: client.frames.seen });
    client.ws.on('message', (data) => visitor.#take(data.toString()));
    client.send(`40${visitor.#prefix}${JSON.stringify({ ...payload, token: tokenFor(user) })}`);
    return visitor;
  }

  get #prefix() {
    return this.namespace === '/' ? '' : `${this.namespace},`;
  }

  #take(frame) {
    if (frame === '2') {
      this.client.send('3');
      return;
    }
    const packet = frame.slice(2 + this.#prefix.length);
    if (frame.startsWith('40')) this.answer = JSON.parse(packet);
    if (frame.startsWith('44')) this.refusal = frame;
    if (!frame.startsWith('42')) return;
    const event = JSON.parse(packet);
    if (isMarker(event[0])) this.markers.push(event[0]);
    else if (event[0] === 'connected') this.welcome = event[1];
    else this.events.push(event);
  }

  get sid() {
    return this.answer.sid;
  }

  get pid() {
    return this.answer.pid;
  }

  /** What a stock client would say as its offset. */
  get offset() {
    return this.markers.at(-1);
  }

  get gone() {
    return this.client.closeCode !== null || this.refusal !== undefined;
  }

  get recovered() {
    return this.welcome.recovered === true;
  }

  /** All that was emitted before has come when what is emitted now has; gives the first argument of each event so far. */
  async all() {
    const name = `barrier-${(barriers += 1)}`;
    await emit(this.target, { event: name, data: 0, user: this.user, namespace: this.namespace });
    await until(5000, `${this.user} gets ${name}`, () => this.events, (events) => events.some(([event]) => event === name), 5);
    // With its marker, which leaves in the same write.
    return this.events.filter(([event]) => !event.startsWith('barrier-')).map(([, first]) => first);
  }

  /** Its connection ends without a word. */
  async cut() {
    this.client.terminate();
    await this.client.gone;
  }

  /** Cut off, and the server knows it; the user has no other socket. */
  async leave() {
    await this.cut();
    await until(2000, `${this.user} is gone`, () => userStatus(this.target, this.user), ({ sockets }) => sockets === 0, 5);
  }

  /** Comes back with what it knows, as a stock client does. */
  back(more = {}) {
    return Visitor.connect(this.target, this.user, { namespace: this.namespace, pid: this.pid, offset: this.offset, ...more });
  }
}
