// The examples, by the command that their readers use, in a browser on a desk and on a phone.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { BINARY } from '../../../../tests/browser/support/server.js';
import { OUTPUT, launchBrowser, openPage, textIs } from '../../../../tests/browser/support/browser.js';

const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

let browser;

before(async () => {
  browser = await launchBrowser();
});
after(() => browser?.close());

// Starts an example, and ends it with the test. Answers with its address.
async function start(test, name) {
  const child = spawn('npm', ['start', '--silent'], {
    cwd: fileURLToPath(new URL(`../../../../examples/${name}`, import.meta.url)),
    env: { ...process.env, SOCKRING_BIN: BINARY, PORT: '0', NO_COLOR: '1' }, stdio: ['ignore', 'pipe', 'pipe'], detached: true,
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  test.after(() => {
    process.kill(-child.pid, 'SIGTERM'); // npm's child too
    return ended;
  });
  let output = '';
  return new Promise((resolve, reject) => {
    ended.then((code) => reject(new Error(`the example ended with ${code}:\n${output}`)));
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        output += text;
        const url = /Local: +(http:\S+)/.exec(output)?.[1];
        if (url) resolve(url);
      });
    }
  });
}

for (const name of ['react', 'vue']) {
  it(`examples/${name}: an analysis, a break, and what was missed in it`, { timeout: 120_000 }, async (t) => {
    const url = await start(t, name);
    const { page, seen } = await openPage(t, browser, url, name === 'vue' ? PHONE : {});
    await page.fill('input', 'alice');
    await page.click('text=Log in');
    await textIs(page, '.pill', 'connected');
    await page.click('text=Analyse a video');
    await page.locator('progress').waitFor();
    await page.waitForFunction(() => document.querySelector('progress').value >= 20);
    await page.screenshot({ path: `${OUTPUT}example-${name}.png` });

    await page.context().setOffline(true);
    await textIs(page, '.pill', 'offline');
    await textIs(page, '.banner', /^Offline since/);
    await page.screenshot({ path: `${OUTPUT}example-${name}-offline.png` });
    await fetch(`${url}backend/analyses?user=alice&fail`, { method: 'POST' }); // begins while nobody hears it
    await page.context().setOffline(false);
    await textIs(page, '.pill', 'connected');
    await page.locator('li').nth(1).waitFor();
    await textIs(page, '.toast', /: Strong technical skills$/);
    await page.screenshot({ path: `${OUTPUT}example-${name}-toast.png` });
    await page.locator('li', { hasText: 'failed' }).waitFor();
    await page.locator('li', { hasText: 'completed' }).waitFor();

    await page.click('text=Log out');
    await page.locator('input').waitFor();
    assert.deepEqual(seen.errors.filter((text) => !/ERR_INTERNET_DISCONNECTED|websocket|WebSocket/.test(text)), []);
  });
}
