import { defineConfig } from 'vitest/config';

const common = {
  testTimeout: 30_000,
  hookTimeout: 60_000,
  // Machines that run CI are shared and sometimes slow: what fails there is tried again, and said to have been.
  retry: process.env['CI'] ? 2 : 0,
};

/** Suites on LocalStack and moto, which are installed while the others run. */
const onFakes = ['test/contract/aws/localstack.test.ts', 'test/contract/aws/moto.test.ts', 'test/contract/{registry,sdk}-on-fakes.test.ts'];

/** Other people's command lines, and upstream's programs: vitest.interop.config.ts and vitest.fakes.config.ts. */
const elsewhere = [
  'test/contract/aws/cli.test.ts',
  'test/e2e/pulumi{,-cluster,-docs,-fakes}.test.ts',
  'test/e2e/{cluster,faults}-{localstack,moto}.test.ts',
  'test/e2e/localstack-docs.test.ts',
  'test/e2e/sdk-localstack.test.ts',
];

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          ...common,
          name: 'unit',
          include: ['src/**/*.test.ts', 'infra/**/*.test.ts', 'localstack/src/**/*.test.ts', 'test/contract/**/*.test.ts'],
          exclude: ['**/node_modules/**', ...elsewhere, ...onFakes],
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...common,
          name: 'end to end',
          include: ['test/e2e/**/*.test.ts', 'test/package/**/*.test.ts', 'test/faults/**/*.test.ts'],
          exclude: ['**/node_modules/**', ...elsewhere, ...onFakes],
          // Each has whole clusters: one after the other, when everything else is done.
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...common,
          name: 'on LocalStack and moto',
          include: onFakes,
          testTimeout: 120_000,
          // An installation at low priority, on a machine that is slow.
          hookTimeout: 900_000,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
