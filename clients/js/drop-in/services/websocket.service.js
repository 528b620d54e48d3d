// One connection for the whole app. Its `socket` is there from the start and stays the same over all connections, so
// listeners may be registered before `connect` and need not be again after a break.
//
// Components may call `connect` and `disconnect` from effects that depend on `isConnected`, and clean up by
// `disconnect`. React runs such effects again whenever `isConnected` changes, so what they call right then means nothing.
import { useSyncExternalStore } from 'react';
import { createClient } from '@sockring/client';

class WebSocketService {
  #token = null;
  #leaving = null;
  #readers = 0;
  #hasChanged = new Moment();
  #hasLostReader = new Moment();

  constructor() {
    const url = process.env.REACT_APP_SERVER_URL || 'http://localhost:8080';
    this.client = createClient({ url, autoConnect: false, getToken: () => this.#token });
    this.socket = this.client.socket;
    let wasConnected = false;
    this.client.onStatus(() => {
      if (this.client.isConnected !== wasConnected) this.#hasChanged.begin();
      wasConnected = this.client.isConnected;
    });
  }

  // Read while a component renders, it renders that component again when it changes.
  get isConnected() {
    try {
      return useSyncExternalStore(this.#subscribe, this.#read);
    } catch {
      return this.#read(); // nothing renders
    }
  }

  // Does nothing where there is a connection. A new token is used from the next attempt on.
  connect(token) {
    if (this.#hasChanged.isNow && token === this.#token) return;
    this.#token = token;
    clearTimeout(this.#leaving);
    this.client.connect();
  }

  // Takes effect when the present task is over, unless `connect` is called before that, or the component that goes
  // makes room for one that stays.
  disconnect() {
    if (this.#hasChanged.isNow) return;
    const isOfReader = this.#hasLostReader.isNow;
    clearTimeout(this.#leaving);
    this.#leaving = setTimeout(() => {
      if (!isOfReader || this.#readers === 0) this.client.disconnect();
    });
  }

  #subscribe = (changed) => {
    const end = this.client.onStatus(changed);
    this.#readers += 1;
    return () => {
      end();
      this.#readers -= 1;
      this.#hasLostReader.begin();
    };
  };

  #read = () => this.client.isConnected;
}

// From `begin` to the end of the present task, with all that React does about it.
class Moment {
  isNow = false;

  begin() {
    this.isNow = true;
    setTimeout(() => { this.isNow = false; });
  }
}

export default new WebSocketService();
