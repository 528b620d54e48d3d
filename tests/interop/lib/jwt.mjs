// JSON Web Tokens as the product's login mints them, and the ones that an attacker would.

import { createHmac } from 'node:crypto';
import { reference, secret } from './program.mjs';

function part(value) {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
}

/** Any header, any claims, HMAC by the header's algorithm (HS256 for unknown ones, nothing for none). */
export function sign(claims, { header = { alg: 'HS256', typ: 'JWT' }, key = secret } = {}) {
  const body = `${part(header)}.${part(claims)}`;
  const hash = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' }[header.alg] ?? 'sha256';
  const signature = /^none$/i.test(header.alg ?? '') ? '' : createHmac(hash, key).update(body).digest('base64url');
  return `${body}.${signature}`;
}

export function now() {
  return Math.floor(Date.now() / 1000);
}

/** A good token for `user`. */
export function tokenFor(user, claims = {}) {
  return sign({ _id: user, iat: now(), exp: now() + 3600, ...claims });
}

/** The CONNECT_ERROR of a token that is refused for this reason; the Node server has the words alone. */
export function refusal(code) {
  const message = code === 'token_missing' ? 'Authentication token required' : 'Authentication failed';
  return `44${JSON.stringify(reference ? { message } : { message, data: { code } })}`;
}
