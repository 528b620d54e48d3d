// The HTML test client of the integration guide, word for word but for its server's address and its token.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { after, before, it } from 'node:test';
import { launchBrowser, openPage } from './support/browser.js';
import { SECRET, mint, startServer } from './support/server.js';

// Copied from the guide, section "Test Client"; never edited.
const CLIENT = readFileSync(new URL('fixtures/guide-test-client.html', import.meta.url), 'utf8');

let browser;
let server;
let files;

before(async () => {
  browser = await launchBrowser();
  server = await startServer({ ACCESS_TOKEN_SECRET: SECRET });
  files = http.createServer(answer).listen(0, '127.0.0.1');
  await once(files, 'listening');
});
after(async () => {
  await browser?.close();
  await server?.stop();
  files?.closeAllConnections();
  files?.close();
});

// Another origin than sockring's: /<user id> is the guide's page with a token of that user.
function answer(request, response) {
  if (request.url === '/favicon.ico') return response.writeHead(204).end();
  const filledIn = [
    ['https://cdn.socket.io/4.7.4/socket.io.min.js', `${server.origin}/socket.io/socket.io.js`],
    ['http://localhost:8080', server.origin],
    ['YOUR_JWT_TOKEN_HERE', mint(request.url.slice(1))],
  ].reduce((html, [from, to]) => {
    assert.equal(html.split(from).length, 2, `the guide has ${from} once`);
    return html.replace(from, to);
  }, CLIENT);
  response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' }).end(filledIn);
}

const lines = (page) => page.$$eval('#messages p', (all) => all.map((line) => line.textContent));
const line = (page, text) => page.locator('#messages p').getByText(text, { exact: true }).waitFor();

it('the guide\'s page shows the analysis of its own user only', { timeout: 90_000 }, async (t) => {
  const origin = `http://localhost:${files.address().port}`;
  const mine = await openPage(t, browser, `${origin}/user-1`);
  const other = await openPage(t, browser, `${origin}/user-2`);
  await line(mine.page, '✅ Connected');
  await line(other.page, '✅ Connected');

  const interviewId = '64a7b8c9d1e2f3g4h5i6j7k8';
  await server.post('/test/analysis-events/user-1', { interviewId });
  await line(mine.page, `❌ Analysis failed for ${interviewId}: Video processing timeout`);
  assert.deepEqual(await lines(mine.page), [
    '✅ Connected',
    `📹 Analysis started for ${interviewId}`,
    `✅ Analysis completed for ${interviewId}`,
    `❌ Analysis failed for ${interviewId}: Video processing timeout`,
  ]);

  // Events of one socket stay in order: once the last one is there, nothing else is on its way.
  await server.post('/emit', { user: 'user-2', event: 'analysis:started', data: { interviewId: 'the-last' } });
  await line(other.page, '📹 Analysis started for the-last');
  assert.deepEqual(await lines(other.page), ['✅ Connected', '📹 Analysis started for the-last']);
  assert.deepEqual([...mine.seen.errors, ...other.seen.errors], []);
});

it('the guide\'s debug mode logs the connection\'s details', { timeout: 90_000 }, async (t) => {
  const { page } = await openPage(t, browser, `http://localhost:${files.address().port}/user-1`);
  await line(page, '✅ Connected');
  await page.evaluate(() => {
    localStorage.debug = 'socket.io-client:socket'; // word for word
  });
  const logged = page.waitForEvent('console', (message) => message.text().includes('socket.io-client:socket'));
  await page.reload();
  assert.match((await logged).text(), /socket\.io-client:socket/);
});
