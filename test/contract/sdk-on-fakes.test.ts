/** The same cluster on AWS endpoints of others: the SDK on moto and on LocalStack, with what each leaves to itself afterwards. */
import { DescribeInstancesCommand, DescribeVpcsCommand, EC2Client } from '@aws-sdk/client-ec2';
import { describe, expect, test } from 'vitest';
import { startLocalstack, startMoto } from '../../localstack/host/start.ts';
import { startCluster } from '../../src/index.ts';

const service = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', annotations: { 'service.beta.kubernetes.io/aws-load-balancer-type': 'nlb' } },
  spec: { type: 'LoadBalancer', selector: { app: 'web' }, ports: [{ port: 80 }] },
};

for (const [name, start] of [
  ['moto', startMoto],
  ['LocalStack', startLocalstack],
] as const) {
  describe(name, () => {
    // The first start of a fake may have to install it.
    test('nodes, a load balancer, the loss of an instance, and nothing left', { timeout: 900_000 }, async () => {
      const fake = await start();
      const credentials = { accessKeyId: 'test', secretAccessKey: 'test' };
      const ec2 = new EC2Client({ region: 'us-east-1', endpoint: fake.url, credentials });
      try {
        const vpcs = async () => (await ec2.send(new DescribeVpcsCommand({}))).Vpcs?.map((v) => v.VpcId).sort();
        const before = await vpcs();
        const cluster = await startCluster({ simulatedNodes: 2, aws: { endpoint: fake.url, credentials } });
        try {
          for (const node of await cluster.list('Node')) {
            expect(node.spec.providerID).toMatch(/^aws:\/\/\/us-east-1[ab]\/i-[0-9a-f]+$/);
            expect(node.metadata.labels).toMatchObject({ 'node.kubernetes.io/instance-type': 'm5.large' });
          }
          await cluster.apply(service);
          const ready = await cluster.waitFor<any>('service/web', 'ready');
          const [balancer] = await cluster.aws.loadBalancers();
          expect(balancer?.dnsName).toBe(ready.status.loadBalancer.ingress[0].hostname);
          expect(balancer?.listeners).toEqual([{ port: 80, protocol: 'TCP' }]);
          await cluster.delete('service/web', { wait: true });
          expect(await cluster.aws.leftovers()).toEqual([]);
          const [node] = await cluster.list('Node');
          await cluster.faults.terminateInstance(node?.metadata.name as string);
          await cluster.eventually('one instance', async () => (await cluster.aws.instances()).length === 1);
        } finally {
          await cluster.stop();
        }
        const { Reservations = [] } = await ec2.send(new DescribeInstancesCommand({}));
        expect(Reservations.flatMap((r) => r.Instances ?? []).filter((i) => i.State?.Name !== 'terminated')).toEqual([]);
        expect(await vpcs()).toEqual(before);
      } finally {
        ec2.destroy();
        await fake.stop();
      }
    });
  });
}
