import { defineConfig } from 'vitest/config';

const entries = ['index', 'react', 'vue', 'testing'];

export default defineConfig({
  build: {
    target: 'es2022',
    minify: false,
    sourcemap: true,
    lib: {
      entry: Object.fromEntries(entries.map((name) => [name, `src/${name}.ts${name === 'react' ? 'x' : ''}`])),
      formats: ['es', 'cjs'],
    },
    rollupOptions: { external: ['socket.io-client', 'vue', /^react($|\/)/] },
  },
  test: { environment: 'happy-dom', include: ['tests/**/*.test.{ts,tsx}'] },
});
