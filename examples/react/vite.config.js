import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';
import { backend } from '../frontend/backend.mjs';

export default defineConfig({
  plugins: [react(), backend()],
  resolve: { dedupe: ['react', 'socket.io-client'] }, // the client is a link to a folder that has its own
  server: { fs: { allow: ['../..'] } },
});
