import type { Operations } from '../cloud.ts';
import { elasticAddressOperations } from './elastic-addresses.ts';
import { imageOperations } from './images.ts';
import { instanceTypeOperations } from './instance-types.ts';
import { instanceAttributeOperations } from './instance-attributes.ts';
import { instanceOperations } from './instances.ts';
import { internetGatewayOperations } from './internet-gateways.ts';
import { keyPairOperations } from './key-pairs.ts';
import { launchTemplateOperations } from './launch-templates.ts';
import { networkInterfaceOperations } from './network-interfaces.ts';
import { routeTableOperations } from './route-tables.ts';
import { runInstancesOperations } from './run-instances.ts';
import { securityGroupOperations } from './security-groups.ts';
import { snapshotOperations } from './snapshots.ts';
import { subnetOperations } from './subnets.ts';
import { tagOperations } from './tags.ts';
import { volumeOperations } from './volumes.ts';
import { vpcOperations } from './vpcs.ts';
import { zoneOperations } from './zones.ts';

/** Every operation of EC2 that the endpoint has, by its name. */
export const ec2Operations: Operations = {
  ...vpcOperations,
  ...subnetOperations,
  ...internetGatewayOperations,
  ...routeTableOperations,
  ...securityGroupOperations,
  ...networkInterfaceOperations,
  ...runInstancesOperations,
  ...instanceOperations,
  ...instanceAttributeOperations,
  ...zoneOperations,
  ...tagOperations,
  ...volumeOperations,
  ...snapshotOperations,
  ...keyPairOperations,
  ...imageOperations,
  ...instanceTypeOperations,
  ...launchTemplateOperations,
  ...elasticAddressOperations,
};
