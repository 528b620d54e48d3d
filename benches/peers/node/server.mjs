// The program on Node: socket.io with the transport `ws`.

import http from 'node:http';
import jsonwebtoken from 'jsonwebtoken';
import { Server } from 'socket.io';
import { WebSocketServer } from 'ws';
import { emit, emitBatch, serve } from '../program.mjs';

const routes = new Map([
  ['/api/v1/websocket/emit', emit],
  ['/api/v1/websocket/emit/batch', emitBatch],
]);

const server = http.createServer(async (request, response) => {
  const route = request.method === 'POST' && routes.get(request.url);
  if (!route) return response.writeHead(404).end();
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const answer = route(io, Buffer.concat(chunks).toString());
  const body = JSON.stringify(answer);
  response.writeHead(answer.statusCode, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
  });
  response.end(body);
});

const io = new Server(server, { wsEngine: WebSocketServer });
serve(io, (token, key) => jsonwebtoken.verify(token, key, { algorithms: ['HS256'] }));

// The load opens connections faster than Node's usual queue of 511 takes them.
server.listen({ port: Number(process.argv[2] ?? 3000), host: '127.0.0.1', backlog: 65535 }, () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
