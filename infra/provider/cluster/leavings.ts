import { sweep } from '../../../src/aws/sweep.ts';
import type { ResourceKind } from '../resource.ts';

/**
 * Stands for what the cluster's own controllers make in a VPC. There is nothing to create; what depends on it (the control
 * plane) is gone when it is deleted, and what it depends on (the network) can then be deleted too.
 */
export const leavings: ResourceKind = {
  token: 'kumulus:cluster:Leavings',
  description: "What a cluster's controllers made in AWS: load balancers and volumes. Deletes them after the control plane.",
  properties: {
    cluster: { type: 'string', description: 'Name of the cluster.', required: true, replaces: true },
    vpcId: { type: 'string', description: 'The VPC.', required: true, replaces: true },
  },
  attributes: {},
  async create(_context, inputs) {
    return { id: String(inputs['vpcId']), attributes: {} };
  },
  async read(_context, id, inputs) {
    return inputs && { id, inputs, attributes: {} };
  },
  async update(_context, id) {
    return { id, attributes: {} };
  },
  async delete(context, _id, inputs) {
    await sweep({ ...context, cluster: String(inputs['cluster']) }, String(inputs['vpcId']));
  },
};
