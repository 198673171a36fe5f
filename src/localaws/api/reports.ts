import type { CloudReports } from '../contract.ts';
import type { Cloud } from './cloud.ts';

export function makeReports(cloud: Cloud): CloudReports {
  return {
    instanceState() {},
    consoleOutput: (instanceId, text) => cloud.consoles.append(instanceId, text),
    volumeAttachment() {},
    volumeState() {},
    loadBalancerState() {},
    targetHealth() {},
  };
}
