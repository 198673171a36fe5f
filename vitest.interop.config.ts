import { defineConfig } from 'vitest/config';

/** Suites that run upstream's programs beside ours: one file at a time, for they measure and compare. */
export default defineConfig({
  test: {
    include: ['test/interop/**/*.test.ts'],
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    passWithNoTests: true,
  },
});
