// A virtual environment in tests/output/venv with the Python packages that tests need.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { packageRoot } from './program.mjs';
import { within } from './wait.mjs';

const venv = path.resolve(packageRoot, '../output/venv');
export const python = path.join(venv, 'bin/python');

/** Runs a program to its end and gives what it said; a status other than 0 is an error. */
export function run(command, args, ms, env = {}, cwd = undefined) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env }, cwd });
  let said = '';
  child.stdout.on('data', (part) => (said += part));
  child.stderr.on('data', (part) => (said += part));
  return within(ms, () => `${command} ${args.join(' ')}: ${said}`, new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => (code === 0 ? resolve(said) : reject(new Error(`${command} ${args.join(' ')} ended with ${code}: ${said}`))));
  })).finally(() => child.kill('SIGKILL'));
}

/** Makes these modules importable by `python`, from the requirements where they are missing. */
export async function needPython(modules, requirements) {
  if (!existsSync(path.join(venv, 'lib')) || !existsSync(python)) await run('python3', ['-m', 'venv', venv], 60000);
  await run(python, ['-c', `import ${modules.join(', ')}`], 20000)
    .catch(() => run(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', requirements], 180000));
}
