import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: [
      'src/**/*.test.ts', 'infra/**/*.test.ts',
      'localstack/src/**/*.test.ts',
      'test/contract/**/*.test.ts',
      'test/e2e/**/*.test.ts', 'test/package/**/*.test.ts',
      'test/faults/**/*.test.ts',
    ],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
