/** The SDK: a Kubernetes cluster on an AWS of its own, from a program or a test. */
export { behaviourAnnotation } from './kubelet/simulated/behaviour.ts';
export { StatusError } from './api/errors.ts';
export { WaitError } from './sdk/errors.ts';
export { startCluster } from './sdk/start.ts';
export type {
  AnyObject,
  AwsInstance,
  AwsLeftover,
  AwsLoadBalancer,
  AwsSecurityGroup,
  AwsVolume,
  BehaviourRule,
  CallFault,
  Cluster,
  ClusterAws,
  ClusterFaults,
  Condition,
  ExecResult,
  KindName,
  KindReference,
  Kinds,
  ObjectOf,
  PodBehaviour,
  RecordedCall,
  Reference,
  StartClusterOptions,
  Undo,
  WaitOptions,
} from './sdk/types.ts';
