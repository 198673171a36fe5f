import type { Client } from '../client/client.ts';
import type { CallFault, RecordedCall } from '../localaws/api/calls.ts';
import type { ClusterAws } from './types.ts';

/** A running cluster as the SDK needs it: in this process, or in processes of its own. */
export interface Backend {
  name: string;
  server: string;
  /** PEM. */
  ca: string;
  admin: { cert: string; key: string };
  client: Client;
  awsConfig: ClusterAws['config'];
  vpcId: string;
  /** How long waits last by default, milliseconds. */
  waitMs: number;
  calls(): Promise<RecordedCall[]>;
  /** Resolves to what takes the fault away. */
  inject(fault: CallFault): Promise<() => Promise<void>>;
  /** Stops or starts a node's kubelet, or cuts its network. */
  disturb(node: string, what: 'kubelet' | 'network', broken: boolean): Promise<void>;
  stop(): Promise<void>;
}
