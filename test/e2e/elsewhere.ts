/** AWS endpoints of others, for suites of whole clusters. */
import { DescribeRepositoriesCommand } from '@aws-sdk/client-ecr';
import { type HostService, startLocalstack, startMoto } from '../../localstack/host/start.ts';
import { createAwsClients } from '../../src/aws/clients.ts';
import type { ExampleCluster } from './example.ts';
import { inventory } from './pulumi-stack.ts';

export interface Elsewhere {
  name: string;
  start(): Promise<RunningAws>;
}

export interface RunningAws extends Pick<HostService, 'url' | 'stop'> {
  /** The account, which for LocalStack is the access key. */
  accountId: string;
}

const account = '100000000005';

export const onLocalstack: Elsewhere = { name: 'LocalStack', start: async () => ({ ...(await startLocalstack()), accountId: account }) };

/** moto's account is its own, whatever the keys. */
export const onMoto: Elsewhere = { name: 'moto', start: async () => ({ ...(await startMoto()), accountId: '123456789012' }) };

/** What there is at the cluster's endpoint, by kind. */
export async function leavingsAt({ awsConfig }: ExampleCluster): Promise<Record<string, number>> {
  const clients = createAwsClients(awsConfig);
  try {
    const { repositories } = await (await clients.ecr()).send(new DescribeRepositoriesCommand({}));
    return { ...(await inventory(clients)), repositories: repositories?.length ?? 0 };
  } finally {
    clients.destroy();
  }
}
