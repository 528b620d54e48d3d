// Debian's Chromium, and a watch over what a page does: console errors, exceptions, requests, WebSockets.
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

export const OUTPUT = fileURLToPath(new URL('../../output/browser/', import.meta.url));
export const WAIT_MS_MAX = 20_000;

const ARGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

export async function launchBrowser() {
  mkdirSync(OUTPUT, { recursive: true });
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGS, timeout: 30_000 });
}

// A page of its own context (no shared storage), closed when the test ends. `seen` fills while it lives.
export async function openPage(test, browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(WAIT_MS_MAX);
  const page = await context.newPage();
  const seen = { errors: [], requests: [], sockets: [] };
  test.after(() => {
    for (const error of seen.errors.slice(0, 5)) test.diagnostic(`the browser's console: ${error}`);
    return context.close();
  });
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') seen.errors.push(message.text());
  });
  page.on('pageerror', (error) => seen.errors.push(String(error)));
  page.on('request', (request) => seen.requests.push(request.url()));
  page.on('websocket', (socket) => seen.sockets.push(socket.url()));
  await page.goto(url);
  return { page, seen };
}

// Waits until the element's text is `wanted`, or matches it; a timeout names both.
export async function textIs(page, selector, wanted) {
  const pattern = wanted instanceof RegExp ? wanted : new RegExp(`^${wanted.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`);
  try {
    await page.locator(selector).filter({ hasText: pattern }).waitFor({ state: 'attached' });
  } catch (error) {
    const text = await page.locator(selector).textContent({ timeout: 1_000 }).catch(() => '(missing)');
    throw new Error(`${selector} is "${text}", wanted ${pattern}`, { cause: error });
  }
}
