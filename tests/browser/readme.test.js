// The README's first minute: its commands and samples, cut out of README.md and run in order, line by line; then those of
// docs/http-api.md, and the payload in docs/clients.md. `DOCS_PICTURE=1` takes the README's picture on the way.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { WAIT_MS_MAX, launchBrowser, openPage, textIs } from './support/browser.js';
import { BINARY } from './support/server.js';

const ROOT = new URL('../../', import.meta.url);
const README = readFileSync(new URL('README.md', ROOT), 'utf8');
const API = readFileSync(new URL('docs/http-api.md', ROOT), 'utf8');
const CLIENTS = readFileSync(new URL('docs/clients.md', ROOT), 'utf8');
const PICTURE = new URL('docs/page.png', ROOT);
const LISTENING = /is listening on http:\/\/localhost:(\d+)/;

// The code blocks of a text, in their order.
const blocksOf = (text) => [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(([, language, code]) => ({ language, text: code }));

// Those of a section of the README.
function blocks(heading) {
  const section = README.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  assert.ok(section, `README.md has a section "${heading}"`);
  return blocksOf(section);
}

// A shell that keeps what one line sets for the next, and has programs of ours in front of its PATH: `git` and `cargo` do
// nothing but run what was built already.
class Shell {
  constructor(test) {
    const folder = mkdtempSync(`${tmpdir()}/sockring-readme-`);
    // `serving` has the id of the server that was started last.
    const serve = `echo $$ > ${folder}/serving; exec ${BINARY}`;
    this.serving = `${folder}/serving`;
    mkdirSync(`${folder}/bin`);
    for (const [name, script] of [
      ['git', 'mkdir "$3"'],
      ['cargo', `case "$1" in run) ${serve};; esac`],
      ['sockring', `[ $# -gt 0 ] && exec ${BINARY} "$@"; ${serve}`],
    ]) {
      writeFileSync(`${folder}/bin/${name}`, `#!/bin/sh\n${script}\n`);
      chmodSync(`${folder}/bin/${name}`, 0o755);
    }
    const { PATH, HOME } = process.env;
    const env = { PATH: `${folder}/bin:${PATH}`, HOME, PORT: '0', SOCKRING_DRAIN: '0' };
    this.child = spawn('bash', ['--norc'], { env, cwd: folder, stdio: ['pipe', 'pipe', 'pipe'] });
    this.output = '';
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        this.output += text;
        this.look?.();
      });
    }
    test.after(() => {
      this.stopServer('SIGKILL');
      this.child.kill('SIGKILL');
      rmSync(folder, { recursive: true });
    });
  }

  // The first match in what was printed since `from`, or will be.
  async printed(pattern, from = 0) {
    let timer;
    const found = new Promise((resolve, reject) => {
      this.look = () => {
        const match = pattern.exec(this.output.slice(from));
        if (match) resolve(match);
      };
      timer = setTimeout(() => reject(new Error(`wanted ${pattern}, printed was:\n${this.output}`)), WAIT_MS_MAX);
      this.look();
    });
    return found.finally(() => clearTimeout(timer));
  }

  type(line) {
    this.child.stdin.write(`${line}\n`);
  }

  // Runs a command to its end, which has to be a good one; answers what it printed.
  async run(command) {
    const from = this.output.length;
    this.type(`${command}\necho "<status $?>"`);
    const [said, status] = await this.printed(/[\s\S]*<status (\d+)>/, from);
    assert.equal(status, '0', `${command}\n${said}`);
    return said.slice(0, said.lastIndexOf('<status'));
  }

  stopServer(signal) {
    if (existsSync(this.serving)) process.kill(Number(readFileSync(this.serving, 'utf8')), signal);
    rmSync(this.serving, { force: true });
  }
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const count = (page, name) => page.locator('#events strong').getByText(name, { exact: true }).count();

// Waits until the page shows this many events of this name.
async function shows(page, name, wanted) {
  await page.locator('#events strong').getByText(name, { exact: true }).nth(wanted - 1).waitFor();
  assert.equal(await count(page, name), wanted);
}

async function runs(program, args) {
  assert.deepEqual(await once(spawn(program, args, { stdio: 'ignore' }), 'exit'), [0, null], `${program} ${args.join(' ')}`);
}

async function takePicture(page) {
  await page.setViewportSize({ width: 1280, height: 640 });
  await page.evaluate(() => document.activeElement.blur());
  await page.screenshot({ path: fileURLToPath(PICTURE) });
}

it('the first minute of the README works as it is written', { timeout: 120_000 }, async (t) => {
  const browser = await launchBrowser();
  t.after(() => browser.close());
  const shell = new Shell(t);
  const [first, second] = blocks('Run it');

  // What needs no setting: three things are printed, and all three do what they are for.
  const begun = first.text.trim().split('\n');
  assert.equal(begun.pop(), 'cargo run --release');
  for (const line of begun) await shell.run(line.replace('<this repository>', 'https://example.com/sockring.git'));
  shell.type('cargo run --release');
  const [url] = await shell.printed(/http:\/\/localhost:\d+\/#token=[\w.-]+/);
  const [curl] = await shell.printed(/curl -X POST .*\\\n.*\\\n.*'\n/);
  const { page } = await openPage(t, browser, url);
  await textIs(page, '#state', 'connected');
  await textIs(page, '#user-id', 'demo');
  const [welcome] = blocksOf(CLIENTS).filter(({ language }) => language === 'json').map(({ text }) => JSON.parse(text));
  const welcomed = JSON.parse(await page.locator('#events li', { hasText: 'connected' }).locator('pre').first().textContent());
  assert.deepEqual(welcomed, { ...welcome, socketId: welcomed.socketId, timestamp: welcomed.timestamp });
  await runs('bash', ['-c', curl]);
  await shows(page, 'analysis:started', 1);

  // The README's own line names port 8080, and else does the same.
  const here = (text, port) => text.replaceAll('localhost:8080', `localhost:${port}`);
  const [{ text: send }] = blocks('Send');
  await runs('bash', ['-c', here(send, new URL(url).port)]);
  await shows(page, 'analysis:started', 2);
  if (process.env.DOCS_PICTURE) await takePicture(page);
  shell.stopServer('SIGINT');
  await textIs(page, '#state', 'connecting');

  // The same with a secret of one's own.
  let from = shell.output.length;
  let token;
  let port;
  for (const line of second.text.trim().split('\n')) {
    assert.ok(line.startsWith('$ '), line);
    from = shell.output.length;
    const said = await shell.run(line.slice(2));
    if (/ token --user demo /.test(line)) token = said.trim().split('\n').at(-1);
    if (line.includes('&  ')) [, port] = await shell.printed(LISTENING, from);
  }
  assert.ok(port && token, 'it was served, and a token was made');

  const origin = `http://localhost:${port}`;
  const { page: mine } = await openPage(t, browser, `${origin}/#token=${token}`);
  await textIs(mine, '#state', 'connected');
  await textIs(mine, '#user-id', 'demo');

  // The client, with the script that the README names instead of a bundler.
  const [{ text: client }] = blocks('Connect');
  const [, script] = /<script src="([^"]+)">/.exec(README);
  const { page: app } = await openPage(t, browser, `${origin}/health`, { bypassCSP: true });
  const hello = app.waitForEvent('console', { predicate: (message) => message.text().startsWith('hello demo ') });
  await app.addScriptTag({ url: here(script, port) });
  const code = here(client, port).replace(/^import .* from 'socket.io-client';$/m, '');
  assert.notEqual(code, here(client, port));
  await app.evaluate(([text, given]) => new Function('token', 'show', text)(given, () => {}), [code, token]);
  await hello;

  // Each sample sends one event, to the same user.
  const samples = blocksOf(API).filter(({ language }) => language !== 'json');
  assert.deepEqual(samples.map(({ language }) => language), ['bash', 'js', 'python', 'sh']);
  // The commands have the server's settings, but for the port, which is any here.
  const commands = (text) => text.trim().split('\n').map((line) => `PORT=${port} ${line.replace(/ +#.*/, '')}`).join(' && ');
  const programs = { sh: commands, bash: (text) => text, js: (text) => `node --input-type=module -e ${quoted(text)}`, python: (text) => `python3 -c ${quoted(text)}` };
  for (const [number, { language, text }] of samples.entries()) {
    await shell.run(programs[language](here(text, port)));
    await shows(mine, 'analysis:started', number + 1);
  }
});
