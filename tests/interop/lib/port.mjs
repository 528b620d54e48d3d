// A port that nothing takes between two starts of a server: below the range that the kernel gives out by itself.

import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';

function free(port) {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** Other test files, which run beside this one, see by the same port of UDP that it is ours for as long as this process lives. */
async function reserve(port) {
  const socket = dgram.createSocket('udp4').unref();
  socket.bind({ port, address: '127.0.0.1', exclusive: true });
  // `once` fails where there is an error instead.
  return once(socket, 'listening').then(() => true, () => false);
}

/** Below 1024 when we are root; else one that was free a moment ago. */
export async function lastingPort() {
  if (process.getuid?.() === 0) {
    const begin = 600 + Math.floor(Math.random() * 300);
    for (let port = begin; port < 1024; port += 1) if (await reserve(port) && await free(port)) return port;
  }
  return new Promise((resolve) => {
    const server = net.createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
