// A way to the server that breaks: connections are cut, or hang, when a test says so.

import net from 'node:net';

/** Gives `url` and `port` as a target has them. */
export async function startWay(target) {
  const pairs = new Set();
  let isOpen = true;
  let isPaused = false;
  const server = net.createServer((near) => {
    if (!isOpen) return near.destroy();
    const far = net.connect(target.port, '127.0.0.1');
    const pair = { near, far, hangs: false };
    pairs.add(pair);
    const forward = (from, to) => {
      from.on('data', (data) => {
        if (!pair.hangs) to.write(data);
      });
      from.on('error', () => {});
      from.on('close', () => {
        if (pair.hangs) return;
        pairs.delete(pair);
        to.destroy();
      });
    };
    forward(near, far);
    forward(far, near);
    if (isPaused) far.pause();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  const each = (act) => pairs.forEach(act);
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    /** Cuts all connections, and lets none through until `open`. */
    close() {
      isOpen = false;
      each(({ near, far }) => {
        near.destroy();
        far.destroy();
      });
      pairs.clear();
    },
    open() {
      isOpen = true;
    },
    /** What is said on these connections is not heard any more, and nobody notices. */
    hang() {
      each((pair) => {
        pair.hangs = true;
      });
    },
    /** The client's side takes nothing for a while. */
    pause() {
      isPaused = true;
      each(({ far }) => far.pause());
    },
    resume() {
      isPaused = false;
      each(({ far }) => far.resume());
    },
    async stop() {
      each(({ near, far }) => {
        near.destroy();
        far.destroy();
      });
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
