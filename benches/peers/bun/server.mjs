// The program on Bun: socket.io with @socket.io/bun-engine on Bun's own server.

import { Server as Engine } from '@socket.io/bun-engine';
import jsonwebtoken from 'jsonwebtoken';
import { Server } from 'socket.io';
import { emit, emitBatch, serve } from '../program.mjs';

const engine = new Engine({ path: '/socket.io/' });
const io = new Server();
io.bind(engine);
// jose takes twice the CPU time here.
serve(io, (token, key) => jsonwebtoken.verify(token, key, { algorithms: ['HS256'] }));

const post = (route) => ({
  POST: async (request) => {
    const answer = route(io, await request.text());
    return Response.json(answer, { status: answer.statusCode });
  },
});

const server = Bun.serve({
  port: Number(process.argv[2] ?? 3000),
  hostname: '127.0.0.1',
  ...engine.handler(),
  routes: {
    '/api/v1/websocket/emit': post(emit),
    '/api/v1/websocket/emit/batch': post(emitBatch),
  },
});
console.log(`listening on http://127.0.0.1:${server.port}`);
