// MessagePack, as far as a test has to write or read it itself.

import { createRequire } from 'node:module';

// The coder of socket.io's own Redis adapter.
const notepack = createRequire(createRequire(import.meta.url).resolve('@socket.io/redis-adapter'))('notepack.io');

export const pack = (value) => notepack.encode(value);
export const unpack = (bytes) => notepack.decode(bytes);
