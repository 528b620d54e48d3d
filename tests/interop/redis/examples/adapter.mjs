// A backend keeps its `io` and its Redis adapter; the clients are elsewhere.
import { createAdapter } from '@socket.io/redis-adapter';
import express from 'express';
import { createClient } from 'redis';
import { Server } from 'socket.io';

const publisher = createClient({ url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379' });
const subscriber = publisher.duplicate();
for (const redis of [publisher, subscriber]) redis.on('error', console.error);
await Promise.all([publisher.connect(), subscriber.connect()]);

const io = new Server({ adapter: createAdapter(publisher, subscriber) });

const app = express();
app.use(express.json());
app.post('/interviews/:id/analysis', (request, response) => {
  const { userId, analysis } = request.body;
  io.to(`user:${userId}`).emit('analysis:completed', { interviewId: request.params.id, analysis });
  response.sendStatus(202);
});
app.get('/users/:id/sockets', async (request, response) => {
  const sockets = await io.in(`user:${request.params.id}`).fetchSockets();
  response.json(sockets.map((socket) => socket.id));
});
const server = app.listen(Number(process.env.PORT ?? 4000), () => console.log(`listening on http://localhost:${server.address().port}`));
