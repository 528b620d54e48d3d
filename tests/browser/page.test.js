// The test page at `/`, in a real Chromium against the real server.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { after, before, describe, it } from 'node:test';
import { OUTPUT, WAIT_MS_MAX, launchBrowser, openPage, textIs } from './support/browser.js';
import { SECRET, connectAs, mint, reusablePort, startRedis, startServer } from './support/server.js';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const TEST = { timeout: 90_000 };
const ANALYSIS = [
  ['analysis:started'],
  ...[0, 25, 50, 75, 100].map((progress) => ['analysis:progress', progress]),
  ['analysis:completed'],
  ['analysis:failed'],
];

let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

// What the list of events shows, oldest first.
const shownEvents = (page) => page.$$eval('#events li[data-kind=event]', (items) => items.reverse().map((item) => ({
  name: item.querySelector('strong').textContent,
  text: item.querySelector('pre').textContent,
})));

const listed = (page, name) => page.locator('#events strong').getByText(name, { exact: true }).first().waitFor();

async function assertNoOverflow(page, what) {
  const [needed, width] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  assert.ok(needed <= width, `${what}: the page needs ${needed} px and has ${width}`);
}

async function takeScreenshots(page, name) {
  await page.evaluate(() => {
    document.activeElement.blur();
    window.scrollTo(0, 0);
  });
  await page.mouse.move(0, 0);
  for (const [size, viewport] of [['desktop', { width: 1280, height: 800 }], ['phone', { width: 390, height: 844 }]]) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await page.screenshot({ path: `${OUTPUT}${name}-${size}-${colorScheme}.png`, fullPage: size === 'phone' });
    }
  }
}

describe('a server that made its own secret', () => {
  let server;
  before(async () => { server = await startServer(); });
  after(() => server?.stop());

  it('prints a URL whose page connects, upgrades, and shows the test events', TEST, async (t) => {
    const [url] = await server.printed(/http:\/\/localhost:\d+\/#token=[\w.-]+/);
    const { page, seen } = await openPage(t, browser, url);

    await textIs(page, '#state', 'connected');
    await textIs(page, '#transport', 'polling → websocket');
    await listed(page, 'connected');
    const welcome = JSON.parse((await shownEvents(page))[0].text);
    assert.equal(await page.textContent('#user-id'), welcome.userId);
    assert.equal(await page.textContent('#socket-id'), welcome.socketId);
    assert.equal(await page.textContent('#server-name'), welcome.server);
    assert.equal(page.url(), `${server.origin}/`, 'the token left the address bar');

    await page.fill('#message', 'Hello from the browser test');
    await page.click('text=Send test message');
    await textIs(page, '#message-form .answer', /^Delivered to 1 socket of user /);
    await listed(page, 'test:message');
    const message = JSON.parse((await shownEvents(page)).at(-1).text);
    assert.equal(message.message, 'Hello from the browser test');
    assert.match(message.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);

    await page.fill('#interview', 'interview-42');
    await page.click('text=Run a test analysis');
    await textIs(page, '#analysis-form .answer', /^Started/);
    await listed(page, 'analysis:failed');
    const events = (await shownEvents(page)).filter(({ name }) => name.startsWith('analysis:'));
    const payloads = events.map(({ text }) => JSON.parse(text));
    assert.deepEqual(events.map(({ name }, i) => [name, payloads[i].progress].filter((part) => part !== undefined)), ANALYSIS);
    assert.ok(payloads.every(({ interviewId }) => interviewId === 'interview-42'));
    assert.equal(await page.locator('#analysis-bar').evaluate((bar) => bar.value), 100);
    assert.equal(await page.locator('.steps .seen').count(), 4);
    await textIs(page, '#analysis-text', new RegExp(payloads.at(-1).error));

    await takeScreenshots(page, 'connected');
    for (const width of [360, 390, 768, 1280]) {
      await page.setViewportSize({ width, height: 800 });
      await assertNoOverflow(page, `${width} px wide`);
    }

    assert.deepEqual(seen.errors, [], 'nothing in the console');
    const allowed = new RegExp(`^(${server.origin}|ws://localhost:${server.port})/|^data:`);
    assert.deepEqual([...seen.requests, ...seen.sockets].filter((address) => !allowed.test(address)), [], 'no other origin');
    assert.equal(seen.sockets.length, 1);
  });
});

describe('a server with a known secret', () => {
  let server;
  before(async () => { server = await startServer({ ACCESS_TOKEN_SECRET: SECRET }); });
  after(() => server?.stop());

  it('refuses wrong tokens, and the page says why and how to go on', TEST, async (t) => {
    const { page } = await openPage(t, browser, server.pageUrl(mint('user-1', { secret: 'another-secret-of-at-least-32-bytes!' })));
    await textIs(page, '#state', 'refused');
    await textIs(page, '#reason', /“Authentication failed”.*signed with another secret/);
    await takeScreenshots(page, 'refused');

    await page.fill('#token', mint('user-1', { ttlSeconds: -60 }));
    await textIs(page, '#token-hint', /^User user-1, expired at/);
    await page.click('#connect');
    await textIs(page, '#reason', /The token has expired: mint a new one with sockring token --user ID/);

    await page.fill('#token', 'nonsense');
    await page.click('#connect');
    await textIs(page, '#reason', /is not a JWT/);

    await page.fill('#token', '');
    await page.click('#connect');
    await textIs(page, '#reason', /“Authentication token required”/);
    await textIs(page, '#state', 'refused');

    await page.fill('#mint-user', ' ');
    await page.click('#mint');
    await textIs(page, '#mint-answer', 'For whom? Fill in a user id.');
    await page.fill('#mint-user', 'user of the page');
    await page.click('#mint');
    await textIs(page, '#user-id', 'user of the page');
    await textIs(page, '#token-hint', /^User user of the page, valid until/);
    await textIs(page, '#mint-answer', '');

    await page.fill('#token', mint('user-1'));
    await page.click('#connect');
    await textIs(page, '#user-id', 'user-1');
    await textIs(page, '#reason', '');
    await page.click('#disconnect');
    await textIs(page, '#state', 'disconnected');
    await page.reload();
    await textIs(page, '#user-id', 'user-1'); // the tab remembers the token
  });

  it('serves each choice of transport', TEST, async (t) => {
    const { page, seen } = await openPage(t, browser, server.pageUrl(mint('user-2')));
    await textIs(page, '#transport', 'polling → websocket');
    for (const choice of ['websocket', 'polling']) {
      await page.selectOption('#transport-choice', choice);
      await page.click('#connect');
      await textIs(page, '#transport', choice);
      await textIs(page, '#user-id', 'user-2');
      await page.click('#clear');
      await page.click('text=Send test message');
      await listed(page, 'test:message');
    }
    assert.equal(seen.sockets.length, 2, 'polling only opens no WebSocket');
    assert.deepEqual(seen.errors, []);
  });

  it('emits to whomever, remembers it, and has the same as programs that do it', TEST, async (t) => {
    // Nobody else is to be there: pages that others have closed while they upgraded count until they miss a heartbeat.
    const alone = await startServer({ ACCESS_TOKEN_SECRET: SECRET });
    t.after(() => alone.stop());
    const { page, seen } = await openPage(t, browser, alone.pageUrl(mint('user-4')));
    await textIs(page, '#user-id', 'user-4');
    await page.click('#tab-users');
    await page.click('#user-form button');
    await textIs(page, '#user-form .answer', 'User user-4 is connected.');
    await textIs(page, '#who-sockets', '1');
    await page.fill('#who-room', 'news');
    await page.click('text=Join');
    await textIs(page, '#room-form .answer', '1 socket has joined news.');

    await page.click('#tab-emit');
    await page.selectOption('#emit-kind', 'room');
    await page.fill('#emit-target', 'news');
    await page.fill('#emit-event', 'it\'s "new"');
    const data = { text: 'it\'s \\ "so" $HOME `x` \u00fc\n' };
    await page.fill('#emit-data', JSON.stringify(data));
    await page.click('#emit-form button');
    await textIs(page, '#emit-form .answer', 'Delivered to 1 socket in room news.');
    const programs = [
      ['curl', (text) => ['bash', '-c', text]], ['fetch', (text) => ['node', '--input-type=module', '-e', text]],
      ['python', (text) => ['python3', '-c', text]], ['php', (text) => ['php', '-r', text.replace('<?php', '')]],
    ];
    for (const [language, command] of programs) {
      await page.selectOption('#copy-as', language);
      const [program, ...args] = command(await page.textContent('#code'));
      const ran = spawnSync(program, args, { encoding: 'utf8', timeout: 20_000 });
      if (ran.error?.code === 'ENOENT') {
        t.diagnostic(`${program} is not here`);
        continue;
      }
      assert.match(ran.stdout, /"delivered":\s*1|delivered: 1|'delivered': 1/, `${language}: ${ran.stdout} ${ran.stderr}`);
    }
    // To build it takes longer than all the rest.
    await page.selectOption('#copy-as', 'go');
    const formatted = spawnSync('gofmt', { input: await page.textContent('#code'), encoding: 'utf8', timeout: 20_000 });
    if (formatted.error?.code === 'ENOENT') t.diagnostic('gofmt is not here');
    else assert.equal(formatted.status, 0, formatted.stderr);
    await page.selectOption('#emit-kind', 'broadcast');
    await page.click('summary:has-text("More")');
    await page.fill('#emit-except', 'nobody, news');
    await page.click('#emit-form button');
    await textIs(page, '#emit-form .answer', /^Sent, but nobody got it here/);
    assert.deepEqual(await page.locator('#history button').allTextContents(), ['it\'s "new" to everybody', 'it\'s "new" to room news']);
    await page.locator('#history button').nth(1).click();
    assert.equal(await page.inputValue('#emit-target'), 'news');
    assert.equal(await page.inputValue('#emit-except'), '');

    await page.click('#tab-users');
    await page.click('text=Leave');
    await textIs(page, '#room-form .answer', '1 socket has left news.');
    await page.click('#kick-form button');
    await textIs(page, '#kick-form .answer', 'Disconnected: 1 socket of user user-4.');
    await textIs(page, '#state', 'disconnected');
    const texts = (await shownEvents(page)).filter(({ name }) => name === 'it\'s "new"').map(({ text }) => JSON.parse(text).text);
    assert.ok(texts.length >= 2, 'one from the form, and one from each program');
    assert.ok(texts.every((text) => text === data.text), JSON.stringify(texts));
    assert.deepEqual(seen.errors, []);
  });

  it('lists who is connected, a page at a time, and does something to whom one picks', TEST, async (t) => {
    const alone = await startServer({ ACCESS_TOKEN_SECRET: SECRET, SOCKRING_SHARDS: '2' });
    t.after(() => alone.stop());
    await Promise.all(Array.from({ length: 150 }, (_, i) => connectAs(alone, `user-${i % 149}`)));
    const { page, seen } = await openPage(t, browser, `${alone.origin}/`);
    await page.click('#tab-users');
    await textIs(page, '#users-hint', '100 users, and more');
    await page.click('#users-more');
    await textIs(page, '#users-hint', '149 users');
    assert.equal(await page.locator('#users-more').isVisible(), false);
    const listed = await page.locator('#users .mono').allTextContents();
    assert.deepEqual(listed.sort(), Array.from({ length: 149 }, (_, i) => `user-${i}`).sort());
    await page.locator('#users button[title="user-0"]').click();
    await textIs(page, '#user-form .answer', 'User user-0 is connected.');
    await textIs(page, '#who-sockets', '2');
    assert.equal(await page.locator('#users button[aria-pressed=true]').getAttribute('title'), 'user-0');
    await page.click('#kick-form button');
    await textIs(page, '#kick-form .answer', 'Disconnected: 2 sockets of user user-0.');
    await page.click('#users-again');
    await page.click('#users-more'); // not there until the list is
    await textIs(page, '#users-hint', '148 users');
    assert.equal(await page.locator('#users button[title="user-0"]').count(), 0);
    assert.deepEqual(seen.errors, []);
  });

  it('shows what happens to the connection, raw packets when asked, and tells screen readers of new events in peace', TEST, async (t) => {
    const { page } = await openPage(t, browser, server.pageUrl(mint('user-5')));
    await textIs(page, '#transport', 'polling → websocket');
    await textIs(page, '#latency', /^\d+\.\d ms$/);
    const lines = (kind) => page.locator(`#events li[data-kind=${kind}] strong`).allTextContents();
    await listed(page, 'upgraded to websocket');
    const connected = `connected as ${await page.textContent('#socket-id')}`;
    // Whether the upgrade or the answer to CONNECT is first is open.
    assert.deepEqual((await lines('line')).sort(), [connected, 'opened by polling', 'upgraded to websocket']);
    await page.evaluate(() => {
      window.told = [];
      new MutationObserver(() => window.told.push(document.getElementById('told').textContent)).observe(document.getElementById('told'), { childList: true });
    });
    await server.post('/emit', { user: 'user-5', event: 'unseen', data: 1 });
    await listed(page, 'unseen');
    assert.deepEqual(await lines('packet'), []);
    await page.check('#show-packets');
    for (let i = 0; i < 30; i += 1) await server.post('/emit', { user: 'user-5', event: `burst:${i}`, data: i });
    await listed(page, 'burst:29');
    assert.ok((await lines('packet')).some((text) => text.startsWith('← message 2["burst:29",29]')), await lines('packet'));
    await page.waitForFunction(() => /the last one burst:29$/.test(window.told.at(-1)));
    const told = await page.evaluate(() => window.told);
    assert.ok(told.length <= 4, `31 events are told in a few words: ${told}`);
    await page.uncheck('#show-lines');
    assert.equal(await page.locator('#events li[data-kind=line]:visible').count(), 0);
  });

  it('shows the numbers of the server, and nothing that axe finds wrong, on a phone as on a desktop, by day and by night', TEST, async (t) => {
    const { page, seen } = await openPage(t, browser, server.pageUrl(mint('user-6')), { bypassCSP: true });
    await textIs(page, '#user-id', 'user-6');
    await page.addScriptTag({ path: AXE });
    for (const [size, viewport] of [['desktop', { width: 1280, height: 800 }], ['phone', { width: 390, height: 844 }]]) {
      await page.setViewportSize(viewport);
      for (const tab of ['events', 'users', 'emit', 'server']) {
        await page.click(`#tab-${tab}`);
        if (tab === 'server') await page.locator('#tiles dd').first().waitFor();
        for (const colorScheme of ['light', 'dark']) {
          await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
          const { violations } = await page.evaluate(() => window.axe.run());
          assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], `${tab}, ${size}, ${colorScheme}`);
          await assertNoOverflow(page, `${tab}, ${size}`);
          await page.evaluate(() => window.scrollTo(0, 0));
          await page.screenshot({ path: `${OUTPUT}console-${tab}-${size}-${colorScheme}.png` });
        }
        if (size === 'phone' && tab !== 'events') {
          await server.post('/emit', { user: 'user-6', event: `sent:${tab}`, data: 1 });
          await textIs(page, '#latest', new RegExp(`^sent:${tab}`));
          const { y, height } = await page.locator('#latest').boundingBox();
          assert.ok(y >= 0 && y + height <= viewport.height, `what arrives is in sight: ${y} + ${height}`);
        }
      }
    }
    await textIs(page, '#tiles dd >> nth=0', /^[1-9]\d*$/);
    assert.equal(await page.locator('.chart svg path').count(), 6);
    assert.deepEqual(seen.errors, []);
  });

  it('shows HTML in names, data, ids and answers as text', TEST, async (t) => {
    const html = '<img src="/x" onerror="window.injected=1"><script>window.injected=1</script>';
    const user = '<b onclick="window.injected=1">user</b>';
    const { page, seen } = await openPage(t, browser, server.pageUrl(mint(user)));
    await textIs(page, '#user-id', user);
    const probes = [
      [html, { html }],
      ['analysis:progress', { interviewId: html, message: html, status: 'processing', progress: 10 }],
      ['last', html],
    ];
    for (const [event, data] of probes) {
      assert.equal((await server.post('/emit', { user, event, data })).delivered, 1);
    }
    await listed(page, 'last');
    const events = await shownEvents(page);
    assert.deepEqual(events.map(({ name }) => name), ['connected', ...probes.map(([event]) => event)]);
    assert.equal(JSON.parse(events[1].text).html, html);
    assert.equal(JSON.parse(events.at(-1).text), html);
    await textIs(page, '#analysis-text', `${html} · 10 %`);

    await page.fill('#recipient', html);
    await page.click('text=Send test message');
    await textIs(page, '#message-form .answer', /has no open connection/);
    assert.ok((await page.textContent('#message-form .answer')).includes(html));

    const made = await page.evaluate(() => [window.injected, document.querySelectorAll('img, b, [onclick], [onerror]').length, document.scripts.length]);
    assert.deepEqual(made, [undefined, 0, 2]);
    assert.deepEqual(seen.errors, []);
  });

  it('emits any event from the form, keeps the last 200, filters and clears', TEST, async (t) => {
    const { page } = await openPage(t, browser, server.pageUrl(mint('user-3')));
    await textIs(page, '#user-id', 'user-3');
    await page.click('#tab-emit');
    await page.fill('#emit-event', 'report:generated');
    await page.fill('#emit-data', '{ "reportId": ');
    await page.click('#emit-form button');
    await textIs(page, '#emit-form .answer', /^The data is not valid JSON/);
    await page.fill('#emit-data', '{ "reportId": "r-7" }');
    await page.click('#emit-form button');
    await textIs(page, '#emit-form .answer', 'Delivered to 1 socket of user user-3.');
    await textIs(page, '#latest', /^report:generated\{ "reportId": "r-7"/);
    await page.click('#latest');
    await listed(page, 'report:generated');
    assert.equal(JSON.parse((await shownEvents(page)).at(-1).text).reportId, 'r-7');
    // The list has lines too that are no events.
    await page.click('#clear');

    for (let i = 0; i < 210; i += 1) await server.post('/emit', { user: 'user-3', event: `tick:${i}`, data: i });
    await listed(page, 'tick:209');
    const names = (await shownEvents(page)).map(({ name }) => name);
    assert.deepEqual(names, Array.from({ length: 200 }, (_, i) => `tick:${i + 10}`));
    await textIs(page, '#count', '210, 200 shown');
    await page.fill('#filter', 'TICK:20');
    await page.locator('#events li:visible').nth(10).waitFor();
    assert.equal(await page.locator('#events li:visible').count(), 11); // 20 and 200 to 209
    await page.fill('#filter', '');
    await page.click('#clear');
    await textIs(page, '#count', '0');
    assert.equal(await page.locator('#events li').count(), 0);
  });
});

it('asks for the API key of a server that has one', TEST, async (t) => {
  const server = await startServer({ ACCESS_TOKEN_SECRET: SECRET, API_KEY: 'browser-tests-key' });
  t.after(() => server.stop());
  const { page } = await openPage(t, browser, server.pageUrl(mint('user-1')));
  await textIs(page, '#user-id', 'user-1');
  await page.click('text=Send test message');
  await textIs(page, '#message-form .answer', /put it in “API key” above/);
  await page.fill('#api-key', 'wrong');
  await page.click('text=Send test message');
  await textIs(page, '#message-form .answer', /does not accept this API key/);
  await page.fill('#api-key', 'browser-tests-key');
  await page.click('text=Send test message');
  await textIs(page, '#message-form .answer', /^Delivered to 1 socket/);
});

it('is a console in production, at the address of the API, for who has a key', TEST, async (t) => {
  const settings = { ACCESS_TOKEN_SECRET: SECRET, API_KEY: 'browser-tests-key', NODE_ENV: 'production', SOCKRING_API_LISTEN: '127.0.0.1:0' };
  const server = await startServer(settings);
  t.after(() => server.stop());
  const [, url] = await server.printed(/The API and the metrics are on (http:\S+)/);
  assert.equal((await fetch(url)).status, 401, 'nothing without a key');
  await connectAs(server, 'user-1');

  const { page, seen } = await openPage(t, browser, url, { httpCredentials: { username: '', password: 'browser-tests-key' } });
  for (const id of ['tests', 'mint-part', 'key-part']) assert.equal(await page.locator(`#${id}`).isVisible(), false, id);
  await page.click('#tab-users');
  await textIs(page, '#users .mono', 'user-1');
  await page.click('#tab-emit');
  await page.fill('#emit-target', 'user-1');
  await page.click('#emit-form button');
  await textIs(page, '#emit-form .answer', 'Delivered to 1 socket of user user-1.');
  await page.click('#tab-server');
  await textIs(page, '#tiles dd >> nth=0', '1');
  assert.deepEqual(seen.errors, []);
  // The engine is at another origin, which in production the operator has to allow.
  await page.click('#tab-events');
  await page.fill('#token', mint('user-2'));
  await page.click('#connect');
  await textIs(page, '#reason', new RegExp(`No connection to .*, and is ${url.replaceAll('.', '\\.')} in its CORS_ORIGIN\\?`));
});

it('shows the numbers of all instances', TEST, async (t) => {
  const redis = await startRedis(t);
  if (!redis) return t.skip('redis-server is not here');
  const settings = { ACCESS_TOKEN_SECRET: SECRET, REDIS_URL: `redis://127.0.0.1:${redis}` };
  const [here, there] = await Promise.all([startServer(settings), startServer(settings)]);
  t.after(() => Promise.all([here.stop(), there.stop()]));
  await Promise.all(['a', 'b', 'b'].map((user) => connectAs(there, user)));
  const { page, seen } = await openPage(t, browser, here.pageUrl(mint('c')));
  await textIs(page, '#user-id', 'c');
  await page.click('#tab-server');
  await textIs(page, '#server-title', 'All instances, now');
  await textIs(page, '#tiles dd >> nth=0', '4');
  await textIs(page, '#tiles dd >> nth=1', '3');
  const rows = await page.locator('#instances tr').evaluateAll((all) => all.map((row) => [...row.children].map((cell) => cell.textContent)));
  assert.deepEqual(rows.map(([name, clients, users]) => [name.replace(/^[^:]+/, ''), clients, users]), [
    [`:${here.port} (this one)`, '1', '1'], [`:${there.port}`, '3', '2'],
  ]);
  await textIs(page, '#instances-hint', '');
  await page.screenshot({ path: `${OUTPUT}console-instances.png` });
  // Whose users: this one's first.
  await page.click('#tab-users');
  await textIs(page, '#users .mono', 'c');
  await page.selectOption('#users-of', { index: 1 });
  await textIs(page, '#users-hint', '2 users');
  assert.deepEqual((await page.locator('#users .mono').allTextContents()).sort(), ['a', 'b']);
  await page.screenshot({ path: `${OUTPUT}console-users-instances.png` });
  const again = page.waitForResponse((response) => response.url().includes('/users?instance='));
  await page.click('#users-again');
  assert.equal((await (await again).json()).data.users.length, 2, 'the choice stays');
  await page.click('#tab-server');
  // One that hangs is said to be missing, and the others' numbers go on.
  there.pause();
  await textIs(page, '#instances-hint', /^1 server on Redis did not answer/);
  await textIs(page, '#tiles dd >> nth=0', '1');
  there.goOn();
  await textIs(page, '#tiles dd >> nth=0', '4');
  assert.deepEqual(seen.errors, []);
});

it('connects and emits where the engine and the API are elsewhere', TEST, async (t) => {
  const places = [
    { SOCKRING_PATH: '/realtime/ws' },
    { SOCKRING_API_LISTEN: '127.0.0.1:0' },
    { SOCKRING_API_LISTEN: '[::1]:0', SOCKRING_SHARDS: '2' },
    { SOCKRING_PATH: '/realtime/', SOCKRING_API_LISTEN: '127.0.0.1:0', SOCKRING_HOST: '127.0.0.1' },
  ];
  for (const settings of places) {
    const server = await startServer(settings);
    t.after(() => server.stop());
    const [url] = await server.printed(/http:\/\/[^ ]+\/#token=[\w.-]+/);
    const { page, seen } = await openPage(t, browser, url);
    await textIs(page, '#transport', 'polling → websocket');
    await textIs(page, '#user-id', 'demo');
    await page.click('text=Send test message');
    await textIs(page, '#message-form .answer', /^Delivered to 1 socket of user demo/);
    await listed(page, 'test:message');
    await page.selectOption('#transport-choice', 'polling');
    await page.click('#connect');
    await textIs(page, '#transport', 'polling');
    await textIs(page, '#state', 'connected');
    assert.deepEqual(seen.errors, [], JSON.stringify(settings));
    const path = new URL(seen.sockets[0]).pathname;
    assert.equal(path, settings.SOCKRING_PATH ? `/${settings.SOCKRING_PATH.replaceAll(/^\/|\/$/g, '')}/` : '/socket.io/');
    await server.stop();
  }
});

it('reconnects by itself when the server comes back, after a shutdown and after a crash', TEST, async (t) => {
  const settings = { ACCESS_TOKEN_SECRET: SECRET, PORT: String(await reusablePort()), SOCKRING_DRAIN: '1' };
  let server = await startServer(settings);
  t.after(() => server.stop());
  const { page } = await openPage(t, browser, server.pageUrl(mint('user-1')));
  await textIs(page, '#transport', 'polling → websocket');
  for (const end of ['stop', 'kill']) {
    const socketId = await page.textContent('#socket-id');
    await server[end]();
    await textIs(page, '#state', 'connecting');
    await textIs(page, '#reason', /is the server running\?/);
    server = await startServer(settings);
    await textIs(page, '#state', 'connected');
    await textIs(page, '#transport', 'polling → websocket');
    await textIs(page, '#user-id', 'user-1');
    assert.notEqual(await page.textContent('#socket-id'), socketId);
    await page.click('#clear');
    await page.click('text=Send test message');
    await listed(page, 'test:message');
  }
  assert.ok(WAIT_MS_MAX * 4 < TEST.timeout, 'every wait fits into the test');
});
