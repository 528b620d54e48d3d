// A page in Chromium that loses its network and comes back, again and again, while its user is sent numbered events.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { after, before, it } from 'node:test';
import { launchBrowser, openPage } from './support/browser.js';
import { SECRET, mint, startServer } from './support/server.js';

const LOSSES = 5;
const EVERY_MS = 5;
const AWAY_MS = 300;
const HERE_MS = 300;

// `?transports=`: what the client may use.
const PAGE = (origin) => `<!doctype html>
<title>away and back</title>
<script src="${origin}/socket.io/socket.io.js"></script>
<script>
  const query = new URLSearchParams(location.search);
  window.numbers = [];
  window.returns = [];
  // The stock client does not listen for the loss of the network when the server's name is localhost.
  window.socket = io('${origin.replace('localhost', '127.0.0.1')}', {
    auth: { token: query.get('token') },
    transports: query.get('transports').split(' '),
    reconnectionDelay: 20,
    reconnectionDelayMax: 100,
  });
  socket.on('connect', () => returns.push({ id: socket.id, recovered: socket.recovered }));
  socket.on('numbered', ({ n }) => numbers.push(n));
</script>`;

let browser;
let server;
let files;

before(async () => {
  browser = await launchBrowser();
  server = await startServer({ ACCESS_TOKEN_SECRET: SECRET });
  files = http.createServer((request, response) => {
    if (request.url === '/favicon.ico') response.writeHead(204).end();
    else response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' }).end(PAGE(server.origin));
  }).listen(0, '127.0.0.1');
  await once(files, 'listening');
});
after(async () => {
  await browser?.close();
  await server?.stop();
  files?.closeAllConnections();
  files?.close();
});

const passes = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Emits 0, 1, 2... to the user until `stop`, which gives how many there were. */
function sendTo(user) {
  let stopped = false;
  const sent = (async () => {
    let n = 0;
    for (; !stopped; n += 1) {
      await server.post('/emit', { user, event: 'numbered', data: { n } });
      await passes(EVERY_MS);
    }
    return n;
  })();
  return {
    stop: () => {
      stopped = true;
      return sent;
    },
  };
}

for (const transports of ['websocket', 'polling', 'polling websocket']) {
  it(`a page loses its network ${LOSSES} times and no event, by ${transports}`, { timeout: 90_000 }, async (t) => {
    const user = `offline by ${transports}`;
    const query = new URLSearchParams({ token: mint(user), transports });
    const { page } = await openPage(t, browser, `http://localhost:${files.address().port}/?${query}`);
    await page.waitForFunction(() => window.returns.length === 1);
    const sender = sendTo(user);
    const network = await page.context().newCDPSession(page);
    await network.send('Network.enable');
    const conditions = (offline) => network.send('Network.emulateNetworkConditions', { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
    for (let loss = 1; loss <= LOSSES; loss += 1) {
      await passes(HERE_MS);
      await conditions(true);
      await page.waitForFunction(() => !window.socket.connected);
      await passes(AWAY_MS);
      await conditions(false);
      await page.waitForFunction((times) => window.socket.connected && window.returns.length > times, loss);
    }
    const sent = await sender.stop();
    await server.post('/emit', { user, event: 'numbered', data: { n: sent } });
    await page.waitForFunction((last) => window.numbers.includes(last), sent);
    const numbers = await page.evaluate(() => window.numbers);
    // Where the network goes between an event and its marker, that event comes again, behind itself.
    const inOrder = numbers.filter((n, at) => n !== numbers[at - 1]);
    assert.deepEqual(inOrder, Array.from({ length: sent + 1 }, (_, n) => n), 'all, in order');
    assert.ok(numbers.length - inOrder.length <= LOSSES, 'twice once a loss at the most');
    const [first, ...returns] = await page.evaluate(() => window.returns);
    assert.ok(returns.length >= LOSSES);
    for (const back of returns) assert.deepEqual(back, { id: first.id, recovered: true });
  });
}
