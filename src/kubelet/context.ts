import type { Logger } from 'pino';
import type { Pod } from '../api/generated/types.ts';
import type { Client } from '../client/client.ts';
import type { Clock } from '../client/clock.ts';
import type { EventRecorder } from '../client/events.ts';
import type { DnsConfig, Runtime } from '../runtime/cri.ts';
import type { ResizeProblem } from './admission.ts';
import type { Backoff } from './backoff.ts';
import type { Cgroups } from './cgroups.ts';
import type { MountedVolume } from './container-config.ts';
import type { DynamicResources } from './dynamic-resources/manager.ts';
import type { EnvSources } from './env.ts';
import type { ImageManager } from './images.ts';
import type { Paths } from './paths.ts';
import type { PodStateReader } from './pod-state.ts';
import type { ProbeManager } from './probes/manager.ts';
import type { Resized } from './resize.ts';
import type { StatusManager } from './status-manager.ts';

export interface PodVolumes {
  /** Sets up every volume of the pod, or brings it up to date, and says where it is. Throws MountError. */
  mount(pod: Pod, signal: AbortSignal): Promise<Map<string, MountedVolume>>;
  /** Binds a path below a volume to a place of its own. */
  subPath(pod: Pod, volume: MountedVolume, name: string, subPath: string, container: string, index: number, readOnly: boolean): Promise<string>;
  /** File systems of claims whose volumes have grown follow them. */
  growClaimed(signal: AbortSignal): Promise<void>;
  /** Undoes all of it. Idempotent; throws while something is still in use. */
  unmount(pod: { metadata: { uid: string; name: string; namespace: string } }): Promise<void>;
}

/** What pod workers share. */
export interface PodContext {
  nodeName: string;
  nodeHostname: string;
  clusterDomain: string;
  clusterDns: string[];
  nodeDns: DnsConfig;
  memoryCapacity: number;
  runtime: Runtime;
  /** As in container ids: NAME://ID. */
  runtimeName: string;
  client: Client;
  recorder: EventRecorder;
  log: Logger;
  clock: Clock;
  paths: Paths;
  cgroups: Cgroups;
  images: ImageManager;
  probes: ProbeManager;
  volumes: PodVolumes;
  dynamicResources: Pick<DynamicResources, 'prepare' | 'devicesOf' | 'unprepare'>;
  statuses: StatusManager;
  states: PodStateReader;
  /** What environment variables of this pod may refer to. */
  env(pod: Pod, signal: AbortSignal): EnvSources;
  crashBackoff: Backoff;
  resized: Resized;
  hostIPs(): string[];
  /** Why pods with an own network cannot run now. */
  networkError(): Promise<string | undefined>;
  /** Whether the node takes this pod. */
  admit(pod: Pod): { reason: string; message: string } | undefined;
  /** Why the node cannot give a running pod what its spec asks now. */
  resizeProblem(pod: Pod): ResizeProblem | undefined;
  /** The object the API server has for this pod: itself, or a static pod's mirror. */
  apiPod(pod: Pod): Pod | undefined;
}
