import * as pulumi from '@pulumi/pulumi';

/** What all parts of a cluster agree on. */
export interface ClusterSettings {
  name: string;
  region: string;
  availabilityZones: string[];
  vpcCidr: string;
  podCidr: string;
  serviceCidr: string;
  clusterDns: string;
  clusterDomain: string;
  tags: Record<string, string>;
  install: { package?: string; registry?: string };
}

export interface ClusterSettingsArgs {
  /** Where left out: the component's name. Unique in account and region. */
  name?: string;
  /** Where left out: kumulus:region of the stack, AWS_REGION, us-east-1. */
  region?: string;
  /** Where left out: a and b of the region. */
  availabilityZones?: string[];
  vpcCidr?: string;
  podCidr?: string;
  /** As in @pulumi/eks: the range of the services. */
  kubernetesServiceIpAddressRange?: string;
  /** On everything. */
  tags?: Record<string, string>;
  /** What machines without the kumulus command install: kumulus@VERSION or the URL of a tarball. */
  package?: string;
  /** npm registry that they install from. */
  registry?: string;
}

export function settingsOf(component: string, args: ClusterSettingsArgs): ClusterSettings {
  const config = new pulumi.Config('kumulus');
  const region = args.region ?? config.get('region') ?? process.env['AWS_REGION'] ?? 'us-east-1';
  const serviceCidr = args.kubernetesServiceIpAddressRange ?? '10.96.0.0/16';
  const name = args.name ?? component;
  if (!/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(name) || name.length > 32)
    throw new Error(`'${name}' is not a valid cluster name: at most 32 lower case letters, digits and '-'`);
  return {
    name,
    region,
    availabilityZones: args.availabilityZones ?? [`${region}a`, `${region}b`],
    vpcCidr: args.vpcCidr ?? '10.0.0.0/16',
    podCidr: args.podCidr ?? '10.244.0.0/16',
    serviceCidr,
    clusterDns: `${serviceCidr.split('.').slice(0, 3).join('.')}.10`,
    clusterDomain: 'cluster.local',
    tags: args.tags ?? {},
    install: { ...(args.package ? { package: args.package } : {}), ...(args.registry ? { registry: args.registry } : {}) },
  };
}
