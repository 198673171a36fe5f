import type { IdNames } from './describe.ts';

/** How EC2 names each kind of resource in its ids and errors. */
export const names = {
  vpc: { prefix: 'vpc', code: 'InvalidVpcID', noun: 'vpc' },
  subnet: { prefix: 'subnet', code: 'InvalidSubnetID', noun: 'subnet' },
  internetGateway: { prefix: 'igw', code: 'InvalidInternetGatewayID', noun: 'internetGateway' },
  routeTable: { prefix: 'rtb', code: 'InvalidRouteTableID', noun: 'routeTable' },
  securityGroup: { prefix: 'sg', code: 'InvalidGroup', malformedCode: 'InvalidGroupId', noun: 'security group' },
  securityGroupRule: { prefix: 'sgr', code: 'InvalidSecurityGroupRuleId', noun: 'security group rule' },
  networkInterface: { prefix: 'eni', code: 'InvalidNetworkInterfaceID', noun: 'networkInterface' },
  instance: { prefix: 'i', code: 'InvalidInstanceID', noun: 'instance' },
  volume: { prefix: 'vol', code: 'InvalidVolume', malformedCode: 'InvalidParameterValue', noun: 'volume' },
  snapshot: { prefix: 'snap', code: 'InvalidSnapshot', malformedCode: 'InvalidSnapshotID', noun: 'snapshot' },
  image: { prefix: 'ami', code: 'InvalidAMIID', noun: 'image' },
  launchTemplate: { prefix: 'lt', code: 'InvalidLaunchTemplateId', noun: 'launch template' },
  address: { prefix: 'eipalloc', code: 'InvalidAllocationID', noun: 'allocation' },
  natGateway: { prefix: 'nat', code: 'NatGateway', noun: 'NAT gateway' },
  keyPair: { prefix: 'key', code: 'InvalidKeyPair', noun: 'key pair' },
} satisfies Record<string, IdNames>;
