// Members of a storm: each is a real client behind a network of its own, with the account of what it has got.

import { spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { BreakingNetwork } from './breaking.mjs';
import { load } from './client.mjs';
import { tokenFor } from './jwt.mjs';
import { Ledger } from './ledger.mjs';
import { packageRoot } from './program.mjs';
import { needPython, python } from './python.mjs';

export const NUMBERED = 'numbered';
export const TRANSPORTS = {
  websocket: ['websocket'],
  polling: ['polling'],
  upgrade: ['polling', 'websocket'],
};

export class Member {
  ledger = new Ledger();
  expected = new Set();
  breaks = 0;
  connected = false;

  /** `version`: of socket.io-client, or `python`. */
  static async create(target, kind) {
    const member = new (kind.version === 'python' ? PythonMember : StockMember)();
    Object.assign(member, { namespace: '/', ...kind });
    member.network = await BreakingNetwork.before(target);
    await member.start();
    return member;
  }

  onConnect(id, recovered) {
    this.id = id;
    this.connected = true;
    this.ledger.connected(id, recovered);
  }

  onDisconnect() {
    this.connected = false;
    this.breaks += 1;
  }
}

class StockMember extends Member {
  async start() {
    const io = await load(this.version);
    this.socket = io(`${this.network.url}${this.namespace}`, {
      forceNew: true,
      transports: TRANSPORTS[this.transports],
      auth: { token: tokenFor(this.user) },
      reconnectionDelay: 10,
      reconnectionDelayMax: 60,
      timeout: 2000,
    });
    this.socket.on('connect', () => this.onConnect(this.socket.id, this.socket.recovered === true));
    this.socket.on('disconnect', () => this.onDisconnect());
    this.socket.onAny((name) => this.ledger.heard(name));
    this.socket.on(NUMBERED, ({ n }) => this.ledger.got(n));
  }

  leave() {
    this.socket.disconnect();
    this.network.stop();
  }
}

const pythonPrograms = path.join(packageRoot, 'recovery/python');

class PythonMember extends Member {
  async start() {
    await (installed ??= needPython(['socketio', 'aiohttp'], path.join(pythonPrograms, 'requirements.txt')));
    const args = [this.network.url, this.namespace, TRANSPORTS[this.transports].join(), tokenFor(this.user)];
    this.child = spawn(python, [path.join(pythonPrograms, 'client.py'), ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    createInterface({ input: this.child.stdout }).on('line', (line) => {
      const [what, first] = JSON.parse(line);
      if (what === 'connect') this.onConnect(first, false);
      else if (what === 'disconnect') this.onDisconnect();
      else if (what === NUMBERED) this.ledger.got(first);
      else this.ledger.heard(first);
    });
  }

  leave() {
    this.child.kill('SIGKILL');
    this.network.stop();
  }
}

/** Once for all members. */
let installed;
