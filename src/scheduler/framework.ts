import type { Informer } from '../client/informer.ts';
import type { Client } from '../client/client.ts';
import type { Clock } from '../client/clock.ts';
import type * as t from '../api/generated/types.ts';
import type { Cache } from './cache.ts';
import type { NodeInfo } from './node-info.ts';
import type { PodInfo } from './pod-info.ts';

/** The best score a plugin gives a node. */
export const MAX_SCORE = 100;

/** What may happen in a cluster that makes a rejected pod fit. */
export type ClusterEvent =
  | 'NodeAdd'
  | 'NodeAllocatable'
  | 'NodeLabel'
  | 'NodeTaint'
  | 'AssignedPodAdd'
  | 'AssignedPodUpdate'
  | 'AssignedPodDelete'
  | 'Claim'
  | 'Volume'
  | 'StorageClass'
  | 'CSINode'
  | 'VolumeAttachment'
  | 'Namespace'
  | 'ResourceClaim'
  | 'ResourceSlice'
  | 'DeviceClass'
  | 'DeviceTaintRule';

/** Why a node, or every node, does not fit. resolvable: taking pods off the node may help. */
export interface Rejection {
  plugin: string;
  reasons: string[];
  resolvable: boolean;
  /** The pod is not ready to be scheduled (upstream's PreEnqueue): it waits without a word. */
  quiet?: boolean;
}

/** What a plugin does for one pod. It was made by prepare, which has looked at the pod and the cluster once. */
export interface Cycle {
  /** Reasons why the pod cannot run on the node; undefined where it can. */
  filter?(node: NodeInfo): { reasons: string[]; resolvable: boolean } | undefined;
  /** Called once with the nodes that fit, before they are scored; false: nothing to score. */
  preScore?(nodes: NodeInfo[]): boolean;
  score?(node: NodeInfo): number;
  /** Brings the scores, one for each node, into 0 to MAX_SCORE. */
  normalize?(scores: number[], nodes: NodeInfo[]): void;
  /** Takes what the pod needs on that node, synchronously. */
  reserve?(node: NodeInfo): void;
  unreserve?(node: NodeInfo): void;
  /** What has to be true before the binding is written, such as bound volumes. */
  preBind?(node: NodeInfo, signal: AbortSignal): Promise<void>;
}

export interface Plugin {
  name: string;
  /** The weight of its scores. */
  weight?: number;
  /** Events after which a pod that this plugin rejected is tried again. */
  events: readonly ClusterEvent[];
  /** Looks at the pod: a rejection means that no node fits, undefined that the plugin has nothing to say. */
  prepare(pod: PodInfo, cache: Cache): Cycle | { reject: string; resolvable?: boolean; quiet?: boolean } | undefined;
}

/** What plugins may look at besides nodes and pods. */
export interface Handle {
  client: Client;
  clock: Clock;
  claims: Informer<t.PersistentVolumeClaim>;
  volumes: Informer<t.PersistentVolume>;
  storageClasses: Informer<t.StorageClass>;
  csiNodes: Informer<t.CSINode>;
  volumeAttachments: Informer<t.VolumeAttachment>;
  namespaces: Informer<t.Namespace>;
  services: Informer<t.Service>;
  replicaSets: Informer<t.ReplicaSet>;
  replicationControllers: Informer<t.ReplicationController>;
  statefulSets: Informer<t.StatefulSet>;
  resourceClaims: Informer<t.ResourceV1ResourceClaim>;
  resourceSlices: Informer<t.ResourceSlice>;
  deviceClasses: Informer<t.DeviceClass>;
  deviceTaintRules: Informer<t.DeviceTaintRule>;
}

/** Scores in proportion to the largest; reversed where less is better. */
export function normalizeByMax(scores: number[], reverse: boolean): void {
  const max = Math.max(0, ...scores);
  for (let i = 0; i < scores.length; i++) {
    const share = max === 0 ? 0 : Math.floor((scores[i]! * MAX_SCORE) / max);
    scores[i] = reverse ? MAX_SCORE - share : share;
  }
}
