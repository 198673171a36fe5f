import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import type { CallContext } from '../cloud.ts';
import { createInterface, dropInterface } from '../ec2/network-interfaces.ts';
import { AwsError } from '../errors.ts';
import { ec2Id } from '../ids.ts';
import type { AddressRecord, LoadBalancerRecord, SubnetRecord } from '../state/records.ts';
import { invalidConfiguration, pathOf, validationError } from './names.ts';

/** Where a load balancer is to stand, and by which addresses. */
export interface Place {
  subnet: SubnetRecord;
  /** A private address of the subnet, where one is asked for. */
  address?: string;
  /** An Elastic IP, of internet-facing ones. */
  elastic?: AddressRecord;
}

interface PlacesInput {
  Subnets?: string[] | undefined;
  SubnetMappings?: elb.SubnetMapping[] | undefined;
}

/** The places that a request names. Throws SubnetNotFound, InvalidSubnet, AllocationIdNotFound, InvalidConfigurationRequest and ValidationError. */
export function placesOf(call: CallContext, input: PlacesInput, type: string, scheme: string): Place[] {
  if (input.Subnets?.length && input.SubnetMappings?.length)
    throw validationError('Subnets and subnet mappings cannot be specified at the same time');
  const wanted: elb.SubnetMapping[] = input.SubnetMappings?.length ? input.SubnetMappings : (input.Subnets ?? []).map((SubnetId) => ({ SubnetId }));
  if (!wanted.length) throw validationError('At least one subnet must be specified');
  const missing = wanted.filter((one) => !call.tables.subnets.has(one.SubnetId ?? '')).map((one) => one.SubnetId ?? '');
  if (missing.length) {
    throw new AwsError(
      'SubnetNotFound',
      `The subnet ID${missing.length > 1 ? 's' : ''} '${missing.join(', ')}' ${missing.length > 1 ? 'do' : 'does'} not exist`,
    );
  }
  const places = wanted.map((one): Place => {
    const subnet = call.tables.subnets.get(one.SubnetId)!;
    if (one.AllocationId !== undefined && one.PrivateIPv4Address !== undefined) {
      throw invalidConfiguration('An allocation ID and a private IPv4 address cannot be specified for the same subnet');
    }
    if (type !== 'network' && (one.AllocationId !== undefined || one.PrivateIPv4Address !== undefined)) {
      throw invalidConfiguration(`Addresses cannot be specified for load balancers of type '${type}'`);
    }
    if (one.PrivateIPv4Address !== undefined && scheme !== 'internal') {
      throw invalidConfiguration('Private IPv4 addresses can be specified for internal load balancers only');
    }
    return {
      subnet,
      ...(one.PrivateIPv4Address === undefined ? {} : { address: one.PrivateIPv4Address }),
      ...(one.AllocationId === undefined ? {} : { elastic: freeElastic(call, one.AllocationId, scheme) }),
    };
  });
  if (new Set(places.map((one) => one.subnet.VpcId)).size > 1) throw new AwsError('InvalidSubnet', 'All subnets must belong to the same VPC');
  const zones = places.map((one) => one.subnet.AvailabilityZone);
  if (new Set(zones).size < zones.length) {
    throw invalidConfiguration('A load balancer cannot be attached to multiple subnets in the same Availability Zone');
  }
  if (type === 'application' && zones.length < 2) {
    throw validationError('At least two subnets in two different Availability Zones must be specified');
  }
  return places;
}

function freeElastic(call: CallContext, allocationId: string, scheme: string): AddressRecord {
  if (scheme === 'internal') throw invalidConfiguration('Elastic IP addresses can be specified for internet-facing load balancers only');
  const address = call.tables.addresses.get(allocationId);
  if (!address) throw new AwsError('AllocationIdNotFound', `The allocation IDs '${allocationId}' do not exist`);
  if (address.AssociationId !== undefined) throw new AwsError('ResourceInUse', `The allocation IDs '${allocationId}' are already in use`);
  return address;
}

/** Puts a load balancer into subnets: an interface in each, with an address that the data plane holds. */
export function stand(
  call: CallContext,
  record: Pick<LoadBalancerRecord, 'LoadBalancerArn' | 'Type' | 'Scheme' | 'SecurityGroups'>,
  places: Place[],
): { ids: string[]; zones: elb.AvailabilityZone[] } {
  const ids: string[] = [];
  const zones = places.map(({ subnet, address, elastic }): elb.AvailabilityZone => {
    const made = makeInterface(call, record, { subnet, ...(address === undefined ? {} : { address }), ...(elastic ? { elastic } : {}) });
    ids.push(made.NetworkInterfaceId);
    if (elastic) {
      call.tables.addresses.change(elastic.AllocationId, {
        AssociationId: ec2Id('eipassoc'),
        NetworkInterfaceId: made.NetworkInterfaceId,
        NetworkInterfaceOwnerId: call.accountId,
        PrivateIpAddress: made.PrivateIpAddress,
      });
    }
    return {
      ZoneName: subnet.AvailabilityZone,
      SubnetId: subnet.SubnetId,
      LoadBalancerAddresses: [
        { PrivateIPv4Address: made.PrivateIpAddress, ...(elastic ? { AllocationId: elastic.AllocationId, IpAddress: elastic.PublicIp } : {}) },
      ],
    };
  });
  return { ids, zones };
}

function makeInterface(call: CallContext, record: Pick<LoadBalancerRecord, 'LoadBalancerArn' | 'Type' | 'Scheme' | 'SecurityGroups'>, place: Place) {
  const { subnet, address, elastic } = place;
  try {
    const made = createInterface(call, {
      subnet,
      address,
      groups: record.SecurityGroups,
      description: `ELB ${pathOf(record.LoadBalancerArn)}`,
      sourceDestCheck: false,
      publicIp: record.Scheme !== 'internal' && !elastic,
      requester: { id: 'amazon-elb', type: record.Type === 'network' ? 'network_load_balancer' : 'interface' },
    });
    return call.tables.networkInterfaces.change(made.NetworkInterfaceId, {
      Status: 'in-use',
      Attachment: {
        AttachmentId: ec2Id('ela-attach'),
        DeleteOnTermination: false,
        DeviceIndex: 1,
        InstanceOwnerId: 'amazon-aws',
        Status: 'attached',
      },
      // A network load balancer without groups takes all: its interfaces do not fall under the VPC's default group.
      ...(record.SecurityGroups?.length ? {} : { Groups: [] }),
    });
  } catch (error) {
    if (!(error instanceof AwsError)) throw error;
    if (error.code === 'InsufficientFreeAddressesInSubnet')
      throw new AwsError('InvalidSubnet', `Not enough IP space available in ${subnet.SubnetId}.`);
    throw invalidConfiguration(error.message);
  }
}

/** Takes away the interfaces of a load balancer; Elastic IPs are free again. */
export function leave(call: CallContext, ids: string[]): void {
  for (const id of ids) dropInterface(call, id);
}
