import { defineConfig } from 'vitest/config';

/** All suites on other people's fakes of AWS, LocalStack and moto, which they install the first time (minutes, some 500 MB). `npm test` has the quick ones. */
export default defineConfig({
  test: {
    include: [
      'localstack/host/*.test.ts',
      'test/contract/aws/localstack.test.ts',
      'test/contract/aws/moto.test.ts',
      'test/contract/{registry,sdk}-on-fakes.test.ts',
      'test/e2e/aws-dataplane.test.ts',
      'test/e2e/cluster-{localstack,moto}.test.ts',
      'test/e2e/faults-localstack.test.ts',
      'test/e2e/localstack-docs.test.ts',
      'test/e2e/sdk-localstack.test.ts',
      'test/e2e/pulumi-fakes.test.ts',
      'test/e2e/pulumi-docs.test.ts',
    ],
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 900_000,
    retry: process.env['CI'] ? 2 : 0,
  },
});
