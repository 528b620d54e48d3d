// The test page over https and wss, in a real Chromium against a server that speaks TLS itself.
import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import { certify } from '../interop/lib/certificate.mjs';
import { launchBrowser, openPage, textIs } from './support/browser.js';
import { SECRET, mint, startServer } from './support/server.js';

let certificate;
let browser;
let server;

before(async () => {
  certificate = certify('DNS:localhost');
  browser = await launchBrowser();
  server = await startServer({
    ACCESS_TOKEN_SECRET: SECRET,
    SOCKRING_TLS_CERT_FILE: certificate.certFile,
    SOCKRING_TLS_KEY_FILE: certificate.keyFile,
  });
});
after(async () => {
  await browser?.close();
  await server?.stop();
  certificate?.remove();
});

it('connects by polling, upgrades, and gets what it asks for', { timeout: 90_000 }, async (t) => {
  // Nobody has signed the certificate but itself.
  const { page, seen } = await openPage(t, browser, server.pageUrl(mint('alice')), { ignoreHTTPSErrors: true });
  await textIs(page, '#state', 'connected');
  await textIs(page, '#transport', 'polling → websocket');
  await page.fill('#message', 'Hello over TLS');
  await page.click('text=Send test message');
  await textIs(page, '#message-form .answer', /^Delivered to 1 socket of user /);
  assert.deepEqual(seen.sockets.map((url) => new URL(url).protocol), ['wss:']);
  assert.ok(seen.requests.length > 0 && seen.requests.every((url) => url.startsWith('https:')), String(seen.requests));
});
