// `npm start` of an example: the server, the example's backend and its page, with whatever they need first.
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const EXAMPLE = process.cwd();
const CLIENT = path.join(REPOSITORY, 'clients/js');
const BINARY = process.env.SOCKRING_BIN ?? path.join(REPOSITORY, 'target/release/sockring');

// What takes long happens once.
if (!existsSync(path.join(CLIENT, 'dist/index.js'))) {
  if (!existsSync(path.join(CLIENT, 'node_modules'))) run('npm', ['ci'], CLIENT);
  run('npm', ['run', 'build'], CLIENT);
}
if (!existsSync(path.join(EXAMPLE, 'node_modules'))) run('npm', ['ci'], EXAMPLE);
if (!existsSync(BINARY)) run('cargo', ['build', '--release', '--locked'], REPOSITORY);

const secret = randomBytes(32).toString('hex');
const sockring = await startSockring();
Object.assign(process.env, { ACCESS_TOKEN_SECRET: secret, SOCKRING_URL: sockring.url });
const { createServer } = await import(pathToFileURL(createRequire(path.join(EXAMPLE, 'x')).resolve('vite')));
const page = await createServer({ root: EXAMPLE, server: { host: '127.0.0.1', port: Number(process.env.PORT ?? 5173) } });
await page.listen();
console.log(`sockring listens at ${sockring.url}`);
page.printUrls();

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    sockring.process.kill('SIGKILL'); // an example need not drain
    await page.close();
    process.exit();
  });
}
process.once('exit', () => sockring.process.kill('SIGKILL'));

function run(program, args, cwd) {
  console.log(`${path.relative(REPOSITORY, cwd) || '.'}: ${program} ${args.join(' ')}`);
  const { status, error } = spawnSync(program, args, { cwd, stdio: 'inherit' });
  if (status !== 0) throw error ?? new Error(`${program} ${args.join(' ')} failed`);
}

async function startSockring() {
  const { PATH, HOME } = process.env;
  const child = spawn(BINARY, ['serve'], {
    env: { PATH, HOME, HOST: '127.0.0.1', PORT: '0', ACCESS_TOKEN_SECRET: secret }, stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`sockring ended with ${code}:\n${output}`)));
    child.stdout.setEncoding('utf8').on('data', (text) => {
      output += text;
      const port = /listening on http:\/\/[^ ]*:(\d+)/.exec(output)?.[1];
      if (port) resolve({ process: child, url: `http://127.0.0.1:${port}` });
    });
  });
}
