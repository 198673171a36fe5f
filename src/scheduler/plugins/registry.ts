import type { Handle, Plugin } from '../framework.ts';
import { dynamicResources } from './dynamic-resources.ts';
import { imageLocality } from './image-locality.ts';
import { interPodAffinity } from './inter-pod-affinity.ts';
import { nodeAffinity } from './node-affinity.ts';
import { nodeName, nodePorts, nodeUnschedulable, taintToleration } from './node-basics.ts';
import { nodeResourcesBalancedAllocation, nodeResourcesFit } from './node-resources.ts';
import { podTopologySpread } from './pod-topology-spread.ts';
import { volumeBinding } from './volume-binding.ts';
import { nodeVolumeLimits, volumeRestrictions, volumeZone } from './volume-limits.ts';

/** Upstream's default plugins in its order, which decides which reason is reported of a node that fails several. */
export const defaultPlugins = (handle: Handle): Plugin[] => [
  nodeName,
  nodeUnschedulable,
  taintToleration,
  nodeAffinity,
  nodePorts,
  nodeResourcesFit,
  volumeRestrictions(handle),
  nodeVolumeLimits(handle),
  volumeBinding(handle),
  volumeZone(handle),
  podTopologySpread(handle),
  interPodAffinity(handle),
  nodeResourcesBalancedAllocation,
  imageLocality,
  dynamicResources(handle),
];
