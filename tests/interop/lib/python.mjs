// A virtual environment in tests/output/venv with the Python packages that tests need.

import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
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

const NEED = `
  test -x "$0/bin/python" || python3 -m venv "$0" || exit
  "$0/bin/python" -c "import $1" 2> /dev/null || "$0/bin/python" -m pip install --quiet --disable-pip-version-check -r "$2"`;

/** Makes these modules importable by `python`, from the requirements where they are missing. */
export function needPython(modules, requirements) {
  mkdirSync(path.dirname(venv), { recursive: true });
  // Files of tests run beside each other.
  return run('flock', [`${venv}.lock`, 'bash', '-c', NEED, venv, modules.join(', '), requirements], 280000);
}
