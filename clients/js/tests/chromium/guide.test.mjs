// The integration guide's own code, word for word, on the files of drop-in/, in a browser and against the server.
import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import { WAIT_MS_MAX, launchBrowser, openPage, textIs } from '../../../../tests/browser/support/browser.js';
import { SECRET, mint, startServer } from '../../../../tests/browser/support/server.js';
import { dropIn, guideBlock, serve } from './bundle.mjs';

const INTERVIEW = '64a7b8c9d1e2f3g4h5i6j7k8';
const SERVICES = {
  'services/websocket.service.js': dropIn('services/websocket.service.js'),
  'constants/websocket.js': dropIn('constants/websocket.js'),
};

let browser;
let server;

before(async () => {
  browser = await launchBrowser();
  server = await startServer({ ACCESS_TOKEN_SECRET: SECRET });
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const open = (test, origin, more = {}) => {
  const given = encodeURIComponent(JSON.stringify({ token: mint('alice'), ...more }));
  return openPage(test, browser, `${origin}#${given}`);
};
const analyse = () => server.post('/test/analysis-events/alice', { interviewId: INTERVIEW });

// The actions of `analyses` whole analyses, but for the progress, which the guide's hook does not listen for.
async function actions(page, analyses) {
  await page.waitForFunction((wanted) => (
    window.actions().filter(({ type }) => type === 'ANALYSIS_FAILED').length === wanted
  ), analyses);
  const all = await page.evaluate(() => window.actions().map(({ type, payload }) => [type, payload.interviewId]));
  return all.filter(([type]) => type !== 'ANALYSIS_PROGRESS');
}

const THREE = [
  ['ANALYSIS_STARTED', INTERVIEW], ['ANALYSIS_COMPLETED', INTERVIEW], ['ANALYSIS_FAILED', INTERVIEW],
];

async function until(condition, tell) {
  const deadline = Date.now() + WAIT_MS_MAX;
  while (!await condition()) {
    assert.ok(Date.now() < deadline, tell());
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// Keeps what the page logs; what it answers with waits until all of `wanted` has been logged.
function logged(page, ...wanted) {
  const lines = [];
  page.on('console', (message) => lines.push(message.text()));
  const isThere = () => wanted.every((text) => lines.some((line) => line.includes(text)));
  return () => until(isThere, () => `wanted ${wanted}, the console says ${JSON.stringify(lines)}`);
}

// Waits until the server has so many clients.
async function clients(wanted) {
  let stats;
  await until(async () => {
    stats = (await (await fetch(`${server.origin}/api/v1/websocket/stats`)).json()).data;
    return stats.connected === wanted;
  }, () => `wanted ${wanted} clients: ${JSON.stringify(stats)}`);
}

for (const [whose, hook] of [['the guide\'s', guideBlock('React Hook Example')], ['our', dropIn('hooks/useWebSocket.js')]]) {
  for (const strict of [false, true]) {
    it(`${whose} React hook${strict ? ' in strict mode' : ''}`, { timeout: 120_000 }, async (t) => {
      const origin = await serve(t, 'react.jsx', { ...SERVICES, 'hooks/useWebSocket.js': hook }, server.origin);
      const { page, seen } = await open(t, origin, { strict });
      await textIs(page, '#status', 'connected');
      await analyse();
      assert.deepEqual(await actions(page, 1), THREE);

      // Rendered again it stays connected, by the same connection.
      await page.click('#render');
      await textIs(page, '#render', 'render 2');
      await clients(1);
      await analyse();
      assert.deepEqual(await actions(page, 2), [...THREE, ...THREE]);
      assert.equal(seen.sockets.length, 1);

      await page.click('#disconnect');
      await textIs(page, '#status', 'not connected');
      await clients(0);
      await page.click('#connect');
      await textIs(page, '#status', 'connected');

      // Another token is the next connection's; a view that makes room for another one keeps it.
      await page.evaluate((token) => window.rotate(token), mint('alice', { ttlSeconds: 7200 }));
      await textIs(page, '#status', 'connected');
      const opened = seen.sockets.length;
      await page.click('#swap');
      await textIs(page, '#swap', 'view 2');
      await textIs(page, '#status', 'connected');
      await clients(1);
      assert.equal(seen.sockets.length, opened);

      await server.post('/disconnect', { user: 'alice' });
      await textIs(page, '#status', 'not connected');
      assert.deepEqual(seen.errors.filter((text) => !text.includes('Analysis failed')), []);
    });
  }
}

it('the guide\'s service for analyses, made before there is a connection', { timeout: 60_000 }, async (t) => {
  const analysis = `${guideBlock('Video Analysis Events')}\nexport { VideoAnalysisService };\n`;
  const origin = await serve(t, 'service.js', { ...SERVICES, 'analysis.js': analysis }, server.origin);
  const { page } = await open(t, origin);
  const all = logged(page, '📹 Analysis started:', '✅ Analysis completed:', '❌ Analysis failed:');
  await clients(1);
  await analyse();
  await all();
});

it('the guide\'s basic setup', { timeout: 60_000 }, async (t) => {
  const files = { 'services/websocket.service.js': guideBlock('Basic Setup') };
  const { page } = await open(t, await serve(t, 'basic.js', files, server.origin));
  await page.waitForFunction(() => window.service.isConnected);
  await page.evaluate(() => window.service.disconnect());
  await clients(0);
});

for (const [whose, composable] of [
  ['the guide\'s', guideBlock('Vue.js Composition API Example')], ['our', dropIn('composables/useWebSocket.js')],
]) {
  it(`${whose} Vue composable`, { timeout: 60_000 }, async (t) => {
    const origin = await serve(t, 'vue.js', { 'composables/useWebSocket.js': composable }, server.origin);
    const { page } = await open(t, origin);
    const logs = logged(page, 'Analysis started:', 'Analysis completed:', 'Analysis failed:');
    await textIs(page, '#status', 'connected');
    await analyse();
    if (whose === 'our') await page.waitForFunction(() => window.heard.length === 3);
    else await logs();
    await page.click('#disconnect');
    await textIs(page, '#status', 'not connected');
  });
}
