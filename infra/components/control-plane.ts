import * as pulumi from '@pulumi/pulumi';
import { apiPort, controlPlaneAddress, controlPlaneTopology, ids } from '../../src/aws/topology.ts';
import { clusterKubeconfig } from '../../src/cluster/kubeconfig.ts';
import { controlPlaneUserData } from '../../src/cluster/user-data.ts';
import { Credentials, Endpoint, Instance, LoadBalancer, Volume } from '../resources.ts';
import { declare, pick } from './declare.ts';
import type { Network } from './network.ts';

export interface ControlPlaneArgs {
  network: Network;
  instanceType?: string;
  /** An AMI's id, or resolve:ssm:PARAMETER. Debian 12 where left out. */
  amiId?: string;
  /** Who may reach the API through the load balancer, as in @pulumi/eks; nobody outside the VPC where the list is empty. */
  publicAccessCidrs?: string[];
  /** GiB of the volume that the cluster's store lives on; 10 where left out. */
  volumeSize?: number;
  /** How long to wait for the API to answer. */
  timeoutSeconds?: number;
}

export const defaultAmi = 'resolve:ssm:/aws/service/debian/release/12/latest/amd64';

/** An EC2 instance that runs API server, controllers, scheduler and cloud controllers, behind a network load balancer. */
export class ControlPlane extends pulumi.ComponentResource {
  /** https://HOST:PORT, once the API answers there. */
  declare readonly endpoint: pulumi.Output<string>;
  declare readonly tlsServerName: pulumi.Output<string>;
  /** As instances reach it. */
  declare readonly privateEndpoint: string;
  /** A secret. */
  declare readonly kubeconfig: pulumi.Output<object>;
  declare readonly credentials: Credentials;
  declare readonly instance: Instance;

  constructor(name: string, args: ControlPlaneArgs, opts?: pulumi.ComponentResourceOptions) {
    super('kumulus:index:ControlPlane', name, {}, opts);
    const { network } = args;
    const s = network.settings;
    const credentials = new Credentials(`${s.name}-credentials`, { cluster: s.name }, { parent: this });
    const spec = { cluster: s.name, region: s.region, zones: s.availabilityZones, vpcCidr: s.vpcCidr };
    const all = controlPlaneTopology(spec, {
      type: 'instance',
      instanceType: args.instanceType ?? 't3.medium',
      imageId: args.amiId ?? defaultAmi,
      publicAccessCidrs: args.publicAccessCidrs ?? ['0.0.0.0/0'],
      volumeSize: args.volumeSize ?? 10,
      secrets: {
        'ca.crt': credentials.caCertificate,
        'ca.key': credentials.caKey,
        'sa.key': credentials.serviceAccountKey,
        'bootstrap-token': credentials.bootstrapToken,
      },
      // It names the load balancer and the volume, which are declared before the template; see below.
      userData: '',
    });
    const template = all.findIndex((d) => d.id === ids.controlPlaneTemplate);
    const common = { cluster: s.name, parent: this, tags: s.tags };
    const before = declare(all.slice(0, template), { ...common, known: network.declared });
    const balancer = pick(before, ids.apiLoadBalancer, LoadBalancer);
    const volume = pick(before, ids.controlPlaneVolume, Volume);
    const userData = pulumi.all([network.vpcId, network.routeTableId, balancer.dnsName, volume.id]).apply(([vpcId, routeTableId, dnsName, dataVolume]) =>
      controlPlaneUserData(
        {
          cluster: s.name,
          vpcId,
          routeTableIds: [routeTableId],
          serviceCidr: s.serviceCidr,
          podCidr: s.podCidr,
          clusterDns: s.clusterDns,
          clusterDomain: s.clusterDomain,
          certificateNames: [dnsName],
          dataVolume,
        },
        s.install,
      ),
    );
    const rest = all.slice(template).map((d) => (d.id === ids.controlPlaneTemplate ? { ...d, properties: { ...d.properties, UserData: userData } } : d));
    const after = declare(rest, {
      ...common,
      known: new Map([...network.declared, ...before]),
      after: (d) => (d.kind === 'ec2:Instance' ? [network.leavings] : []),
    });
    this.credentials = credentials;
    this.instance = pick(after, ids.controlPlaneInstance, Instance);
    this.privateEndpoint = `https://${controlPlaneAddress(s.vpcCidr)}:${apiPort}`;
    const endpoint = new Endpoint(
      `${s.name}-endpoint`,
      {
        loadBalancerArn: balancer.id,
        port: apiPort,
        caCertificate: credentials.caCertificate,
        instanceId: this.instance.id,
        ...(args.timeoutSeconds ? { timeoutSeconds: args.timeoutSeconds } : {}),
      },
      { parent: this, dependsOn: [...after.values()] },
    );
    this.endpoint = endpoint.server;
    this.tlsServerName = endpoint.tlsServerName;
    this.kubeconfig = pulumi.secret(
      pulumi
        .all([endpoint.server, endpoint.tlsServerName, credentials.caCertificate, credentials.adminCertificate, credentials.adminKey])
        .apply(([server, tlsServerName, ca, cert, key]) => clusterKubeconfig(s.name, server, ca, { cert, key }, tlsServerName)),
    );
    this.registerOutputs({ endpoint: this.endpoint, kubeconfig: this.kubeconfig });
  }
}
