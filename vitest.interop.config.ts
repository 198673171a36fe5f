import { defineConfig } from 'vitest/config';

/** Suites that run other people's programs beside ours: one file at a time, for they measure and compare. */
export default defineConfig({
  test: {
    include: ['test/interop/**/*.test.ts', 'test/e2e/pulumi.test.ts', 'test/e2e/pulumi-cluster.test.ts', 'test/contract/aws/cli.test.ts'],
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    retry: process.env['CI'] ? 2 : 0,
  },
});
