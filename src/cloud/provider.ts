import type { Node, NodeAddress, Service } from '../api/generated/types.ts';

/** What the cloud controllers know of a cloud. Shapes follow k8s.io/cloud-provider; errors are the cloud's own, with a message fit for an event. */
export interface CloudProvider {
  name: string;
  instances: Instances;
  routes: Routes;
  loadBalancers: LoadBalancers;
  volumes: Volumes;
}

export interface InstanceMetadata {
  /** aws:///us-east-1a/i-0123456789abcdef0 */
  providerId: string;
  instanceType: string;
  zone: string;
  region: string;
  addresses: NodeAddress[];
  additionalLabels: Record<string, string>;
}

export interface Instances {
  exists(node: Node): Promise<boolean>;
  /** Stopped or stopping, but not gone. */
  shutdown(node: Node): Promise<boolean>;
  /** Throws where no instance matches the node. */
  metadata(node: Node): Promise<InstanceMetadata>;
}

export interface Route {
  targetNode: string;
  destinationCidr: string;
  /** The route leads nowhere, since its instance or interface is gone. */
  blackhole: boolean;
}

export interface Routes {
  list(): Promise<Route[]>;
  create(route: { node: Node; destinationCidr: string }): Promise<void>;
  delete(route: Route): Promise<void>;
}

export interface LoadBalancerStatus {
  hostname: string;
}

export interface LoadBalancers {
  get(service: Service): Promise<LoadBalancerStatus | undefined>;
  /** Find or create, and repair what drifted. Idempotent. */
  ensure(service: Service, nodes: Node[]): Promise<LoadBalancerStatus>;
  updateNodes(service: Service, nodes: Node[]): Promise<void>;
  /** Resolves when nothing of it is left. Idempotent. */
  ensureDeleted(service: { namespace: string; name: string; uid: string; annotations: Record<string, string> }): Promise<void>;
}

export interface VolumeSpec {
  /** A name unique to the claim, such as pvc-UID; creating twice with one name gives one volume. */
  name: string;
  sizeBytes: number;
  zone: string;
  parameters: Record<string, string>;
  tags: Record<string, string>;
}

export interface Volumes {
  /** CSI driver name: ebs.csi.aws.com */
  driver: string;
  create(spec: VolumeSpec): Promise<{ volumeId: string; zone: string; sizeBytes: number }>;
  delete(volumeId: string): Promise<void>;
  /** Resolves when the volume has at least that size. Idempotent; nothing shrinks. */
  expand(volumeId: string, sizeBytes: number): Promise<{ sizeBytes: number }>;
  /** Resolves to the device path seen by the instance, such as /dev/xvdba, when attached. Idempotent. */
  attach(volumeId: string, node: Node): Promise<{ devicePath: string }>;
  /** Resolves when detached. Idempotent; also where the instance is gone. */
  detach(volumeId: string, node: { name: string; providerId: string }): Promise<void>;
}
