import { waitUntil } from '../../../src/aws/clients.ts';
import { type Made, PartialFailure, type ResourceContext, type ResourceKind } from '../resource.ts';
import type { Properties } from '../values.ts';
import { apiGet } from './api-client.ts';

interface NodeStatus {
  spec?: { providerID?: string; taints?: { key: string }[] };
  status?: { conditions?: { type: string; status: string }[] };
}

async function waitForNodes(context: ResourceContext, inputs: Properties): Promise<Made> {
  const url = new URL(String(inputs['server']));
  const to = {
    host: url.hostname,
    port: Number(url.port || 443),
    serverName: String(inputs['tlsServerName'] || url.hostname),
    ca: String(inputs['caCertificate']),
    cert: String(inputs['adminCertificate']),
    key: String(inputs['adminKey']),
  };
  const id = String(inputs['group']);
  const names = inputs['names'] as string[];
  const instanceIds = (inputs['instanceIds'] ?? []) as string[];
  let missing = names;
  try {
    for (const [n, name] of names.entries()) {
      await waitUntil(
        `node ${name} to be Ready`,
        async () => {
          const answer = await apiGet(to, `/api/v1/nodes/${encodeURIComponent(name)}`, context.signal).catch(() => {
            context.signal.throwIfAborted();
            return undefined;
          });
          if (answer?.status !== 200) return undefined;
          const node: NodeStatus = JSON.parse(answer.body);
          const ready = node.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True');
          const initialised = !node.spec?.taints?.some((t) => t.key === 'node.cloudprovider.kubernetes.io/uninitialized');
          // A Node of that name may be of an instance that is gone, and had the same address.
          const own = !instanceIds[n] || node.spec?.providerID?.endsWith(`/${instanceIds[n]}`);
          return ready && initialised && own ? true : undefined;
        },
        { timeoutMs: 1000 * Number(inputs['timeoutSeconds']), signal: context.signal },
      );
      missing = missing.filter((one) => one !== name);
    }
  } catch (error) {
    throw new PartialFailure({ id, attributes: {} }, new Error(`${(error as Error).message}; not Ready: ${missing.join(', ')}`));
  }
  return { id, attributes: {} };
}

/** The nodes of a group, Ready: what depends on it finds them so. */
export const readyNodes: ResourceKind = {
  token: 'kumulus:cluster:ReadyNodes',
  description: 'Nodes of a group; waits until each of them is Ready.',
  properties: {
    group: { type: 'string', description: 'Name of the node group.', required: true, replaces: true },
    names: { type: 'list', description: 'Names of the nodes.', required: true, items: { type: 'string', description: 'name' } },
    instanceIds: { type: 'list', description: 'Ids of their instances, in the same order.', items: { type: 'string', description: 'id' } },
    server: { type: 'string', description: 'https://HOST:PORT of the API.', required: true },
    tlsServerName: { type: 'string', description: "Name in the server's certificate." },
    caCertificate: { type: 'string', description: "PEM of the cluster's authority.", required: true },
    adminCertificate: { type: 'string', description: "PEM of the administrator's certificate.", required: true },
    adminKey: { type: 'string', description: "PEM of the administrator's key.", required: true, secret: true },
    timeoutSeconds: { type: 'integer', description: 'How long to wait for one.', default: 900 },
  },
  attributes: {},
  create: waitForNodes,
  async read(_context, id, inputs) {
    return inputs && { id, inputs, attributes: {} };
  },
  update: (context, _id, inputs) => waitForNodes(context, inputs),
  async delete() {},
};
