// A certificate of its own for a server of a test, which who trusts it has to be given. By OpenSSL: Node makes keys only.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** For names such as `DNS:localhost` or `IP:127.0.0.1`: the files, what is in them, and `remove`. */
export function certify(...names) {
  const folder = mkdtempSync(path.join(tmpdir(), 'sockring-certificate-'));
  const [certFile, keyFile] = ['cert.pem', 'key.pem'].map((name) => path.join(folder, name));
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=sockring of a test',
    '-addext', 'basicConstraints=critical,CA:FALSE', '-addext', `subjectAltName=${names}`, '-keyout', keyFile, '-out', certFile,
  ], { stdio: 'pipe' });
  const [cert, key] = [certFile, keyFile].map((file) => readFileSync(file));
  return { certFile, keyFile, cert, key, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
