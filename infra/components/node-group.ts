import * as pulumi from '@pulumi/pulumi';
import { ids, nodeGroupTopology } from '../../src/aws/topology.ts';
import { workerUserData } from '../../src/cluster/user-data.ts';
import { Instance, ReadyNodes } from '../resources.ts';
import { type ControlPlane, defaultAmi } from './control-plane.ts';
import { declare, pick } from './declare.ts';
import type { Network } from './network.ts';

/** As in @pulumi/eks: the key is the taint's. */
export interface Taint {
  value: string;
  effect: 'NoSchedule' | 'NoExecute' | 'PreferNoSchedule';
}

/** Named as in @pulumi/eks where they mean the same. */
export interface NodeGroupOptions {
  instanceType?: string;
  /** How many nodes. */
  desiredCapacity?: number;
  /** An AMI's id, or resolve:ssm:PARAMETER. Debian 12 where left out. */
  amiId?: string;
  labels?: Record<string, string>;
  taints?: Record<string, Taint>;
  /** How long to wait for a node to be Ready. */
  timeoutSeconds?: number;
}

export interface NodeGroupArgs extends NodeGroupOptions {
  network: Network;
  controlPlane: ControlPlane;
  /** Where left out: the component's name. */
  name?: string;
}

/** EC2 instances from one launch template that join a cluster as nodes. */
export class NodeGroup extends pulumi.ComponentResource {
  declare readonly instanceIds: pulumi.Output<string[]>;
  /** Names of the nodes, which are Ready when this is known. */
  declare readonly nodeNames: pulumi.Output<string[]>;

  constructor(name: string, args: NodeGroupArgs, opts?: pulumi.ComponentResourceOptions) {
    super('kumulus:index:NodeGroup', name, {}, opts);
    const { network, controlPlane } = args;
    const s = network.settings;
    const group = args.name ?? name;
    const taints = Object.entries(args.taints ?? {}).map(([key, taint]) => ({ key, ...taint }));
    const userData = pulumi.secret(
      pulumi.all([controlPlane.credentials.bootstrapToken, controlPlane.credentials.caCertHash]).apply(([token, caCertHash]) =>
        workerUserData(
          {
            server: controlPlane.privateEndpoint,
            token,
            caCertHash,
            clusterDns: s.clusterDns,
            clusterDomain: s.clusterDomain,
            podCidr: s.podCidr,
            nodeLabels: args.labels ?? {},
            nodeTaints: taints,
          },
          s.install,
        ),
      ),
    );
    const size = args.desiredCapacity ?? 2;
    const declarations = nodeGroupTopology(
      { cluster: s.name, zones: s.availabilityZones },
      { name: group, size, instanceType: args.instanceType ?? 't3.medium', imageId: args.amiId ?? defaultAmi, userData },
    );
    const declared = declare(declarations, {
      cluster: s.name,
      parent: this,
      tags: s.tags,
      known: network.declared,
      // The control plane's instance first: its address is fixed, and EC2 must not give it to a node.
      after: (d) => (d.kind === 'ec2:Instance' ? [network.leavings, controlPlane.instance] : []),
    });
    const instances = Array.from({ length: size }, (_, n) => pick(declared, ids.instance(group, n), Instance));
    this.instanceIds = pulumi.all(instances.map((i) => i.id));
    const ready = new ReadyNodes(
      `${s.name}-${group}-ready`,
      {
        group,
        names: instances.map((i) => i.privateDnsName),
        instanceIds: instances.map((i) => i.id),
        server: controlPlane.endpoint,
        tlsServerName: controlPlane.tlsServerName,
        caCertificate: controlPlane.credentials.caCertificate,
        adminCertificate: controlPlane.credentials.adminCertificate,
        adminKey: controlPlane.credentials.adminKey,
        ...(args.timeoutSeconds ? { timeoutSeconds: args.timeoutSeconds } : {}),
      },
      { parent: this },
    );
    this.nodeNames = pulumi.all([ready.id, ...instances.map((i) => i.privateDnsName)]).apply(([, ...names]) => names);
    this.registerOutputs({ instanceIds: this.instanceIds, nodeNames: this.nodeNames });
  }
}
