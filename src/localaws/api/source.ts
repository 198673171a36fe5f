import type { CloudSource, CloudState } from '../contract.ts';
import type { Cloud } from './cloud.ts';

export function makeSource(cloud: Cloud): CloudSource & { end(): void } {
  const empty = { vpcs: [], subnets: [], routeTables: [], internetGateways: [], securityGroups: [], networkInterfaces: [], instances: [], volumes: [] };
  return {
    region: cloud.region,
    accountId: cloud.accountId,
    read: async (): Promise<CloudState> => ({ ...empty, loadBalancers: [], listeners: [], targetGroups: [] }),
    onChange: (callback) => cloud.state.onCommit(callback),
    userData: async () => undefined,
    roleCredentials: async () => undefined,
    end() {},
  };
}
