// The programs of examples/emit in each language that this machine has: the event arrives, and a refusal has its words.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { afterEach } from 'node:test';
import { Client, closeClients } from '../lib/client.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { apiKey, packageRoot, startSockring } from '../lib/program.mjs';
import { run } from '../lib/python.mjs';
import { suite } from '../lib/suite.mjs';

const EXAMPLES = path.resolve(packageRoot, '../../examples/emit');
// What runs a program, by the end of its name, and what it answers when it is there and new enough.
const RUNNERS = {
  '.mjs': [['node'], ['--version'], /./],
  '.py': [['python3'], ['--version'], /./],
  '.php': [['php'], ['-r', 'echo ini_get("allow_url_fopen");'], /1/],
  '.go': [['go', 'run'], ['version'], /go1\.(1[89]|[2-9]\d)/],
  '.java': [['java'], ['--version'], /(openjdk|java) (1[789]|[2-9]\d)/],
  '.rb': [['ruby'], ['--version'], /./],
  '.sh': [['sh'], ['-c', 'curl --help all'], /--fail-with-body/],
};
const programs = readdirSync(EXAMPLES).filter((name) => name !== 'README.md');
const row = suite(() => startSockring(), { timeout: 60000 });
afterEach(closeClients);

for (const name of programs) {
  const [[program, ...args], probe, wanted] = RUNNERS[path.extname(name)];
  const probed = spawnSync(program, probe, { encoding: 'utf8' });
  const skip = wanted.test(probed.stdout ?? '') ? false : `${program} is not here, or too old`;

  row(`examples/emit/${name}`, async (target) => {
    const user = `told by ${path.extname(name).slice(1)}`;
    const client = await Client.connected('4.8.4', target, { token: tokenFor(user) });
    const command = [...args, path.join(EXAMPLES, name), user];
    const said = await run(program, command, 50000, { SOCKRING_URL: target.url, API_KEY: apiKey });
    assert.match(said, /delivered\D+1\b/);
    const { interviewId, score } = await client.event('analysis:completed');
    assert.deepEqual({ interviewId, score }, { interviewId: '42', score: 0.75 });

    await assert.rejects(run(program, command, 50000, { SOCKRING_URL: target.url, API_KEY: 'wrong' }), /401/, 'a wrong key ends the program');
  }, { skip });
}
