// The example's own backend, as a plugin of Vite's development server: it says who a user is, keeps what is asked for
// after a break, and analyses videos (it counts to 100). What it tells users goes through sockring.
import { createHmac, randomUUID } from 'node:crypto';

const STEP_MS = 400;

export function backend({ sockring = process.env.SOCKRING_URL, secret = process.env.ACCESS_TOKEN_SECRET } = {}) {
  const analyses = new Map(); // by user: by interview

  // One event to a user.
  async function emit(user, event, data) {
    const answer = await fetch(`${sockring}/api/v1/websocket/emit`, {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ user, event, data }),
    });
    if (!answer.ok) console.error(`sockring: ${answer.status} ${await answer.text()}`);
  }

  async function analyse(user, interviewId, shallFail) {
    const tell = (kind, rest) => {
      const state = { started: 'processing', progress: 'processing' }[kind] ?? kind;
      const mine = analyses.get(user) ?? analyses.set(user, new Map()).get(user);
      mine.set(interviewId, { interviewId, state, ...rest });
      return emit(user, `analysis:${kind}`, { interviewId, status: state, ...rest });
    };
    await tell('started', { message: 'Video analysis has started' });
    for (let progress = 0; progress <= 100; progress += 5) {
      if (shallFail && progress > 60) {
        return tell('failed', { message: 'Video analysis failed', error: 'Video processing timeout', retryable: true });
      }
      await tell('progress', { message: 'Video analysis goes on', progress });
      await new Promise((resolve) => setTimeout(resolve, STEP_MS));
    }
    const analysis = { summary: 'Strong technical skills', analyzedAt: new Date().toISOString(), fileSize: 15_728_640 };
    return tell('completed', { message: 'Video analysis completed successfully', analysis });
  }

  // An HS256 token for ten minutes; the page fetches another one at each connection.
  function mint(user) {
    const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const now = Math.floor(Date.now() / 1000);
    const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ _id: user, iat: now, exp: now + 600 })}`;
    return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
  }

  function answer(request, response) {
    const url = new URL(request.url, 'http://localhost');
    const user = url.searchParams.get('user'); // a real backend knows it from the session's cookie
    if (!user) return response.writeHead(401).end();
    switch (`${request.method} ${url.pathname}`) {
      case 'GET /token':
        return response.end(mint(user));
      case 'GET /analyses':
        return response.end(JSON.stringify([...(analyses.get(user)?.values() ?? [])]));
      case 'POST /analyses':
        void analyse(user, randomUUID().slice(0, 8), url.searchParams.has('fail'));
        return response.writeHead(202).end();
      default:
        return response.writeHead(404).end();
    }
  }

  return {
    name: 'backend',
    config: () => ({ server: { proxy: { '/socket.io': { target: sockring, ws: true } } } }),
    configureServer: (server) => void server.middlewares.use('/backend', answer),
  };
}
