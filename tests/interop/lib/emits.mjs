// The table of emits: what is emitted, who gets it, and with which values.

import { ODD_ROOM, ROOM_OF_20 } from './crowd.mjs';

const nothing = undefined;
const bytes = (...list) => Buffer.from(list);
const when = new Date('2023-11-14T22:13:20.123Z');

/**
 * The rows: what is emitted (`args` without the event name), to whom, and what they get where it is not the same.
 * `binary`, `odd`: not for a source that speaks JSON.
 */
export function emitRows(crowd) {
  const { main, admin } = crowd;
  const who = (...names) => names;
  return [
    // The first, while all of them can take it at once.
    { name: 'volatile', flags: { volatile: true }, rooms: ['user:web-A', 'user:web-B', 'user:web-C'], args: [1], to: who('A.web', 'B.web', 'C.web') },
    { name: 'to all', args: ['x', 1], to: main },
    { name: 'to a user of A', rooms: ['user:web-A'], args: [{ id: 7 }], to: who('A.web') },
    { name: 'to a user of D', rooms: ['user:poll-D'], args: [{ id: 7 }], to: who('D.poll') },
    { name: 'to a user everywhere', rooms: ['user:multi'], args: [{ id: 7 }], to: crowd.of('multi') },
    { name: 'to a room', rooms: ['r1'], args: [], to: who('A.web', 'B.poll', 'C.web', 'D.poll') },
    { name: 'to two rooms', rooms: ['r1', 'r2'], args: [1], to: who('A.web', 'B.poll', 'C.web', 'D.poll', 'A.poll', 'D.multi') },
    { name: 'to many rooms', rooms: ['user:web-A', 'user:web-B', 'user:poll-C', 'nobody', 'r2'], args: [1], to: who('A.web', 'B.web', 'C.poll', 'A.poll', 'C.web', 'D.multi') },
    { name: 'to a room but not another', rooms: ['r1'], except: ['r2'], args: [1], to: who('A.web', 'B.poll', 'D.poll') },
    { name: 'to two rooms but not two', rooms: ['r1', 'r2'], except: ['user:web-C', 'user:poll-B'], args: [1], to: who('A.web', 'D.poll', 'A.poll', 'D.multi') },
    { name: 'to all but a user', except: ['user:multi'], args: [1], to: crowd.but(...crowd.of('multi')) },
    { name: 'to all but a socket', except: [crowd.id('A.up')], args: [1], to: crowd.but('A.up') },
    { name: 'to a socket of A', rooms: [crowd.id('A.up')], args: [1], to: who('A.up') },
    { name: 'to a socket of C', rooms: [crowd.id('C.poll')], args: [1], to: who('C.poll') },
    { name: 'to two sockets', rooms: [crowd.id('B.poll'), crowd.id('D.web')], args: [1], to: who('B.poll', 'D.web') },
    { name: 'to a number', rooms: [42], args: [1], odd: true, to: who('B.web', 'D.web') },
    { name: 'to an odd name', rooms: [ODD_ROOM], args: [1], to: who('A.web', 'C.poll') },
    { name: 'to a room of 20 letters', rooms: [ROOM_OF_20], args: [1], to: who('A.web', 'B.poll', 'D.web') },
    { name: 'to nobody', rooms: ['nobody'], args: [1], to: [] },
    { name: 'compressed', flags: { compress: true }, args: ['z'.repeat(3000)], to: main },
    { name: 'not compressed', flags: { compress: false }, rooms: ['r1'], args: [1], to: who('A.web', 'B.poll', 'C.web', 'D.poll') },
    { name: 'in a namespace', nsp: '/admin', args: [1, 'two'], to: admin },
    { name: 'in a namespace to a user', nsp: '/admin', rooms: ['user:web-B'], args: [1], to: who('B.admin') },
    { name: 'in a namespace to a room', nsp: '/admin', rooms: ['r1'], except: ['user:web-D'], args: [1], to: who('A.admin') },
    { name: 'in a namespace, binary', nsp: '/admin', rooms: ['r1'], args: [bytes(1, 2)], binary: true, to: who('A.admin', 'D.admin') },
    { name: 'binary', binary: true, args: [bytes(0xde, 0xad), { file: bytes(1, 2, 3), name: 'f' }], to: main },
    { name: 'binary to a user', binary: true, rooms: ['user:multi'], args: [bytes(0xca, 0xfe)], to: crowd.of('multi') },
    {
      name: 'nested binary', binary: true, rooms: ['r1', 'r2'], to: who('A.web', 'B.poll', 'C.web', 'D.poll', 'A.poll', 'D.multi'),
      args: [[[{ a: [bytes(), 1, { b: bytes(9) }] }], bytes(7, 8)], { _placeholder: false, deep: { er: { still: bytes(255) } } }],
    },
    { name: 'ten attachments', binary: true, rooms: ['user:multi'], args: [Array.from({ length: 10 }, (_, index) => Buffer.alloc(index, index))], to: crowd.of('multi') },
    { name: 'a megabyte', binary: true, rooms: ['r1'], args: [Buffer.alloc(1_000_000, 0x61)], to: who('A.web', 'B.poll', 'C.web', 'D.poll') },
    {
      name: 'typed arrays', binary: true, rooms: ['user:multi'], to: crowd.of('multi'),
      args: [new Uint8Array([1, 2]), new Uint8Array([3]).buffer], got: [bytes(1, 2), bytes(3)],
    },
    {
      name: 'dates', odd: true, rooms: ['user:multi', 'r1'], to: [...crowd.of('multi'), 'A.web', 'B.poll', 'C.web', 'D.poll'],
      args: [when, { at: new Date(0), list: [new Date(-1500), new Date('2286-11-20T17:46:40.001Z'), new Date('2514-05-30T01:53:04Z')] }],
      got: ['2023-11-14T22:13:20.123Z', { at: '1970-01-01T00:00:00.000Z', list: ['1969-12-31T23:59:58.500Z', '2286-11-20T17:46:40.001Z', '2514-05-30T01:53:04.000Z'] }],
    },
    {
      name: 'numbers', args: [0, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, 9007199254740991, -1, -32, -33, -128, -129, -32768, -32769,
        -2147483648, -2147483649, -9007199254740991, 0.1, -0.5, 1e-7, 5e-324, 123456789.123456789], to: main,
    },
    { name: 'odd numbers', odd: true, rooms: ['user:multi'], args: [NaN, Infinity, { minus: -Infinity }, -0], got: [null, null, { minus: null }, 0], to: crowd.of('multi') },
    {
      name: 'text', args: ['', 'é漢字🎉\u2028\u0000\u001f"\\/', { 'schlüssel 🎈': '\u007f\u0080\uffff', '': 'empty', '__proto': 1, 'a.b': 'c' }], to: main,
    },
    { name: 'an event with an odd name: é🎉"\\', args: [1], to: main },
    { name: 'values', args: [null, true, false, [], {}, [[], [null]], { a: { b: [{ c: null }] } }, 'x'], to: main },
    { name: 'things without a value', odd: true, rooms: ['user:multi'], args: [nothing, { gone: nothing, here: 1 }, [nothing]], got: [null, { here: 1 }, [null]], to: crowd.of('multi') },
    { name: 'a placeholder that is none', args: [{ _placeholder: false, num: 0 }, { _placeholder: 'x' }], to: main },
    { name: 'long', rooms: ['user:multi', 'r2'], args: ['x'.repeat(300_000), Array.from({ length: 2000 }, (_, index) => ({ index }))], to: [...crowd.of('multi'), 'A.poll', 'C.web'] },
    { name: 'deep', rooms: ['user:multi'], args: [nested(60)], to: crowd.of('multi') },
  ];
}

function nested(depth) {
  return depth === 0 ? 1 : depth % 2 ? [nested(depth - 1)] : { d: nested(depth - 1) };
}

/** A source by JSON cannot say everything. */
export const inJson = (row) => !row.binary && !row.odd;

/** Sends each of `list`, named after its place, and looks who has got what. */
export async function emitAll(crowd, place, list, send) {
  const named = list.map(({ name, got, args, ...row }) => ({ ...row, event: `${place}: ${name}`, got: got ?? args, args: [`${place}: ${name}`, ...args] }));
  for (const row of named) await send(row);
  await crowd.assertGot(named);
  crowd.forget();
}

export function byEmitter(emitter, { nsp = '/', rooms = [], except = [], flags = {}, args }) {
  let to = nsp === '/' ? emitter : emitter.of(nsp);
  for (const room of rooms) to = to.to(room);
  if (except.length > 0) to = to.except(except);
  if (flags.volatile) to = to.volatile;
  if (flags.compress !== undefined) to = to.compress(flags.compress);
  to.emit(...args);
}

/** What the emitter does with the steps of a sequence. */
export function emitterDoes(emitter, [operation, spec]) {
  if (operation === 'emit') return byEmitter(emitter, spec);
  const to = spec.rooms.reduce((some, room) => some.in(room), emitter);
  return to[operation](spec.join ?? spec.leave ?? spec.close);
}
