/** The example's page on a cluster that Pulumi made, through the load balancer of its Service. */
import { CreateRepositoryCommand, DescribeRepositoriesCommand, GetAuthorizationTokenCommand } from '@aws-sdk/client-ecr';
import { DescribeLoadBalancersCommand, DescribeTagsCommand } from '@aws-sdk/client-elastic-load-balancing-v2';
import { type AwsClients, hasCode, waitUntil } from '../../src/aws/clients.ts';
import { hostAddressTag } from '../../src/aws/handlers/load-balancer.ts';
import { exampleObjects } from '../../src/cluster/example.ts';
import { findProgram } from '../../src/cluster/preflight.ts';
import { busyboxImage } from '../../src/runtime/images/busybox.ts';
import { pushImage } from '../../src/runtime/images/push.ts';
import type { Machine } from './command.ts';

const repositoryName = 'kumulus/example';

/** Pushes the example's image for the endpoint's ECR, from which instances pull; resolves to its name. */
export async function pushExample(clients: AwsClients, registryUrl: string): Promise<string> {
  const ecr = await clients.ecr();
  await ecr.send(new CreateRepositoryCommand({ repositoryName })).catch((error) => {
    if (!hasCode(error, 'RepositoryAlreadyExistsException')) throw error;
  });
  const account = (await ecr.send(new DescribeRepositoriesCommand({ repositoryNames: [repositoryName] }))).repositories?.[0]?.registryId;
  const auth = (await ecr.send(new GetAuthorizationTokenCommand({}))).authorizationData?.[0]?.authorizationToken as string;
  const busybox = findProgram('busybox');
  const source = await busyboxImage([], busybox ? { busybox } : {});
  try {
    await pushImage({ registryUrl, repository: repositoryName, tag: '1', auth: { auth }, source });
  } finally {
    await source.close();
  }
  return `${account}.dkr.ecr.${clients.config.region}.amazonaws.com/${repositoryName}:1`;
}

/** Resolves when its pods are Ready and its Service has a load balancer. */
export async function deployExample(machine: Machine, image: string): Promise<void> {
  const { deployment, service } = exampleObjects(image);
  await machine.kubectl('apply -f -', { input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items: [deployment, service] }) });
  await machine.kubectl('rollout status deployment/hello --timeout=180s', { timeoutMs: 200_000 });
  await machine.kubectl(['wait', '--for=jsonpath={.status.loadBalancer.ingress[0].hostname}', 'service/hello', '--timeout=120s']);
}

/** The page by the address on this host of the Service's load balancer. */
export async function examplePage(machine: Machine, clients: AwsClients): Promise<{ text: string; address: string; balancerArn: string }> {
  const hostname = await machine.kubectl('get service hello -o jsonpath={.status.loadBalancer.ingress[0].hostname}');
  const elb = await clients.elbv2();
  const balancer = (await elb.send(new DescribeLoadBalancersCommand({}))).LoadBalancers?.find((b) => b.DNSName === hostname);
  const balancerArn = balancer?.LoadBalancerArn as string;
  const tags = new DescribeTagsCommand({ ResourceArns: [balancerArn] });
  const address = await waitUntil('the address on this host', async () =>
    (await elb.send(tags)).TagDescriptions?.[0]?.Tags?.find((t) => t.Key === hostAddressTag)?.Value,
  );
  // Until its targets are healthy it takes no connections; there is nothing to watch from outside.
  const ask = () =>
    fetch(`http://${address}/`).then(
      async (answer) => (answer.ok ? answer.text() : undefined),
      () => undefined,
    );
  return { text: await waitUntil('the page', ask, { timeoutMs: 120_000 }), address, balancerArn };
}
