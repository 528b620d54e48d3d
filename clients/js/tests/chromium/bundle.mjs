// Pages of the tests: an entry of pages/ with the files it imports, bundled and served.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { once } from 'node:events';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import react from '@vitejs/plugin-react';
import { build } from 'vite';

const PACKAGE = fileURLToPath(new URL('../../', import.meta.url));
const PAGES = path.join(PACKAGE, 'tests/chromium/pages');

// The code block under a heading of the guide, word for word.
export function guideBlock(heading) {
  const guide = readFileSync(path.join(PACKAGE, '../../tests/browser/fixtures/websocket-integration-guide.md'), 'utf8');
  const section = guide.split(`\n### ${heading}\n`)[1];
  const block = /```javascript\n(.*?)```/s.exec(section ?? '')?.[1];
  if (!block) throw new Error(`the guide has no code under "${heading}"`);
  return block;
}

// A file of drop-in/.
export const dropIn = (name) => readFileSync(path.join(PACKAGE, 'drop-in', name), 'utf8');

// Bundles an entry with `files` (name: text) beside it, serves it, and ends that with the test. Answers with its address.
export async function serve(test, entry, files, serverUrl) {
  const folder = mkdtempSync(path.join(PACKAGE, 'tests/chromium/.page-'));
  test.after(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(path.join(PAGES, entry), path.join(folder, entry));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), text);
  }
  const built = await build({
    root: folder, configFile: false, logLevel: 'error', plugins: [react()],
    define: {
      'process.env.REACT_APP_SERVER_URL': JSON.stringify(serverUrl),
      'process.env.VUE_APP_SERVER_URL': JSON.stringify(serverUrl),
      'process.env.NODE_ENV': JSON.stringify('development'),
      __VUE_OPTIONS_API__: 'false', __VUE_PROD_DEVTOOLS__: 'false', __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: 'false',
    },
    resolve: { alias: { '@sockring/client': path.join(PACKAGE, 'dist/index.js') } },
    build: { write: false, minify: false, rollupOptions: { input: path.join(folder, entry), output: { format: 'iife' } } },
  });
  const { code } = built.output[0];
  const html = '<!doctype html><html lang="en"><title>Test</title><link rel="icon" href="data:,"><div id="root"></div>'
    + '<script src="/page.js"></script></html>';
  const server = http.createServer((request, response) => {
    const [type, text] = request.url === '/page.js' ? ['text/javascript', code] : ['text/html', html];
    response.writeHead(200, { 'Content-Type': `${type}; charset=utf-8` }).end(text);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  test.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://localhost:${server.address().port}/`;
}
