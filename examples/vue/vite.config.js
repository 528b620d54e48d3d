import vue from '@vitejs/plugin-vue';
import { defineConfig } from 'vite';
import { backend } from '../frontend/backend.mjs';

export default defineConfig({
  plugins: [vue(), backend()],
  resolve: { dedupe: ['vue', 'socket.io-client'] }, // the client is a link to a folder that has its own
  server: { fs: { allow: ['../..'] } },
});
