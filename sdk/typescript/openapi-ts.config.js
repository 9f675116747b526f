import { defineConfig } from '@hey-api/openapi-ts';

// The core that generate.sh makes. What is written by hand is beside it, in src.
export default defineConfig({
  input: './build/openapi.yaml',
  logs: { file: false },
  output: { path: 'src/generated', module: { extension: '.js' } },
  plugins: [
    { name: '@hey-api/client-fetch', throwOnError: true },
    { name: '@hey-api/typescript' },
    { name: '@hey-api/sdk', responseStyle: 'data' },
  ],
});
