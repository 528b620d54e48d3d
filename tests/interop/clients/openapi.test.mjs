// The API against the description that it gives of itself: a linter finds nothing in it, and Schemathesis makes up requests
// by it, right ones and wrong ones, and holds the answers to it. `SECONDS_MAX`: for longer, and with everything that it can make up.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { before } from 'node:test';
import assert from 'node:assert/strict';
import { apiKey, packageRoot, startSockring } from '../lib/program.mjs';
import { needPython, python, run } from '../lib/python.mjs';
import { suite } from '../lib/suite.mjs';

const HERE = path.join(packageRoot, 'clients/openapi');
const SECONDS_MAX = Number(process.env.SECONDS_MAX ?? 0);
// Of what needs least time: the limits of every field, and one step beyond them.
const QUICK_SECONDS = 6;
const NAMESPACES = ['/', '/admin'];

const row = suite(() => startSockring({ SOCKRING_NAMESPACES: NAMESPACES.join(',') }), { timeout: SECONDS_MAX * 2000 + 120000 });

before(() => needPython(['schemathesis', 'openapi_spec_validator'], path.join(HERE, 'requirements.txt')), { timeout: 300000 });

async function described(target) {
  const response = await fetch(`${target.url}/api/v1/websocket/openapi.json`, { headers: { 'x-api-key': apiKey } });
  assert.equal(response.status, 200);
  return response.text();
}

/** Runs it in a folder of its own, where it may leave what it likes. */
async function schemathesis(target, document, args) {
  const folder = mkdtempSync(path.join(tmpdir(), 'sockring-openapi-'));
  try {
    writeFileSync(path.join(folder, 'openapi.json'), document);
    writeFileSync(path.join(folder, 'schemathesis.toml'), `hooks = ${JSON.stringify(path.join(HERE, 'hooks.py'))}\n`);
    return await run(python, [
      '-m', 'schemathesis.cli', '--config-file', path.join(folder, 'schemathesis.toml'), 'run', path.join(folder, 'openapi.json'),
      '--url', target.url, '--header', `x-api-key: ${apiKey}`,
      '--workers', '2', '--continue-on-failure', '--max-failures', '20', '--seed', '1', '--no-color',
      '--generation-database', 'none', '--suppress-health-check', 'all',
      // What is kept for a user is an empty list when it was taken back, and not gone.
      '--exclude-checks', 'use_after_free', ...args,
    ], SECONDS_MAX * 2000 + 100000, { PYTHONDONTWRITEBYTECODE: '1' }, folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What the linter would have otherwise, errors and warnings, by its recommended rules. */
async function problems(file) {
  const quiet = { REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true' };
  const linter = path.join(packageRoot, 'node_modules/.bin/redocly');
  const { status, stdout, stderr } = spawnSync(linter, ['lint', '--format=json', file], {
    encoding: 'utf8', timeout: 30000, cwd: path.dirname(file), env: { ...process.env, ...quiet },
  });
  assert.ok(status === 0 || status === 1, `${status}: ${stderr}`);
  return JSON.parse(stdout).problems.map(({ ruleId, message, location }) => `${ruleId}: ${message} ${location[0].pointer}`);
}

row('the API does what its description says, and refuses what that forbids', async (target) => {
  const document = await described(target);
  const { paths, components } = JSON.parse(document);
  assert.deepEqual(components.schemas.Emit.properties.namespace.enum, [...NAMESPACES, null]);
  const folder = mkdtempSync(path.join(tmpdir(), 'sockring-openapi-'));
  writeFileSync(path.join(folder, 'openapi.json'), document);
  try {
    await run(python, ['-m', 'openapi_spec_validator', path.join(folder, 'openapi.json')], 30000);
    assert.deepEqual(await problems(path.join(folder, 'openapi.json')), []);
  } finally {
    rmSync(folder, { recursive: true });
  }

  // A schema counts characters where the server counts bytes.
  const ascii = ['--generation-codec', 'ascii'];
  if (SECONDS_MAX === 0) {
    await schemathesis(target, document, [...ascii, '--phases', 'coverage', '--max-time', `${QUICK_SECONDS}`]);
  } else {
    await schemathesis(target, document, [...ascii, '--max-examples', '100000', '--max-time', `${SECONDS_MAX}`]);
    await schemathesis(target, document, ['--exclude-checks', 'use_after_free,positive_data_acceptance', '--max-examples', '100000', '--max-time', `${SECONDS_MAX / 2}`]);
  }
  target.assertAlive();
  assert.ok(Object.keys(paths).length > 15);
});
