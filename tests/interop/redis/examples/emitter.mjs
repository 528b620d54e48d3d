// A process without clients emits to a user through Redis: node emitter.mjs USER
import { Emitter } from '@socket.io/redis-emitter';
import { createClient } from 'redis';

const redis = createClient({ url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379' });
redis.on('error', console.error);
await redis.connect();

const io = new Emitter(redis);
io.to(`user:${process.argv[2]}`).emit('analysis:completed', { interviewId: '42', finishedAt: new Date() });
await redis.close();
