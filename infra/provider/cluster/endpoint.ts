import { waitUntil } from '../../../src/aws/clients.ts';
import { loadBalancer } from '../../../src/aws/handlers/load-balancer.ts';
import { type Made, PartialFailure, type ResourceContext, type ResourceKind } from '../resource.ts';
import type { Properties } from '../values.ts';
import { apiGet } from './api-client.ts';

async function findServer(context: ResourceContext, inputs: Properties): Promise<Made> {
  const arn = String(inputs['loadBalancerArn']);
  const port = Number(inputs['port']);
  const ca = String(inputs['caCertificate']);
  let last = 'it has no address yet';
  try {
    return await waitUntil(
      `the API server behind ${arn}`,
      async () => {
        const found = await loadBalancer.read({ ...context, cluster: '' }, arn);
        if (!found) throw new Error(`load balancer ${arn} is gone`);
        const { DnsName: dnsName = '', HostAddress: hostAddress = '' } = found.attributes;
        // Where a data plane shares this host with us, its load balancers have names that only its VPCs know.
        for (const host of [hostAddress, dnsName].filter(Boolean)) {
          try {
            const answer = await apiGet({ host, port, serverName: dnsName, ca }, '/readyz', context.signal);
            if (answer.status === 200) return { id: arn, attributes: { server: `https://${host}:${port}`, tlsServerName: host === dnsName ? '' : dnsName } };
            last = `/readyz at ${host} answers ${answer.status}`;
          } catch (error) {
            context.signal.throwIfAborted();
            last = (error as Error).message;
          }
        }
        return undefined;
      },
      { timeoutMs: 1000 * Number(inputs['timeoutSeconds']), signal: context.signal },
    );
  } catch (error) {
    throw new PartialFailure({ id: arn, attributes: { server: '', tlsServerName: '' } }, new Error(`${(error as Error).message} (${last})`));
  }
}

/** Where a cluster's API answers. It exists when it does: what depends on it finds a working API server. */
export const endpoint: ResourceKind = {
  token: 'kumulus:cluster:Endpoint',
  description: "Where a cluster's API answers; waits until it does.",
  properties: {
    loadBalancerArn: { type: 'string', description: 'The load balancer in front of the API server.', required: true, replaces: true },
    port: { type: 'integer', description: 'Its port.', required: true },
    caCertificate: { type: 'string', description: "PEM of the cluster's authority.", required: true },
    instanceId: { type: 'string', description: 'The instance behind it; another one is waited for again.' },
    timeoutSeconds: { type: 'integer', description: 'How long to wait.', default: 900 },
  },
  attributes: {
    server: { description: 'https://HOST:PORT.' },
    tlsServerName: { description: "Name in the server's certificate, where it is not the host of the URL." },
  },
  create: findServer,
  async read(context, id, inputs, state) {
    const balancer = await loadBalancer.read({ ...context, cluster: '' }, id);
    // One that was never reached is to be waited for again.
    if (!balancer || !inputs || !state['server']) return undefined;
    return { id, inputs, attributes: { server: state['server'], tlsServerName: state['tlsServerName'] } };
  },
  update: (context, _id, inputs) => findServer(context, inputs),
  async delete() {},
};
