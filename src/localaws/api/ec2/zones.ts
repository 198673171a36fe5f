import type {
  DescribeAccountAttributesRequest,
  DescribeAccountAttributesResult,
  DescribeAvailabilityZonesRequest,
  DescribeAvailabilityZonesResult,
  DescribeRegionsRequest,
  DescribeRegionsResult,
} from '@aws-sdk/client-ec2';
import type { CallContext, Cloud, Operations } from '../cloud.ts';
import { AwsError, invalidParameter } from '../errors.ts';
import { filterBy } from './describe.ts';

/** The id of a zone, such as use1-az1 of us-east-1a. */
export function zoneId(cloud: Cloud, zone: string): string {
  const [continent, direction, number] = cloud.region.split('-');
  const short =
    direction === undefined
      ? cloud.region
      : `${continent}${direction.replace(/(north|south|east|west|central)/g, (word) => word[0]!)}${number ?? ''}`;
  return `${short}-az${cloud.zones.indexOf(zone) + 1}`;
}

const zoneFilters = {
  'zone-name': (zone: any) => zone.ZoneName,
  'zone-id': (zone: any) => zone.ZoneId,
  'zone-type': (zone: any) => zone.ZoneType,
  'region-name': (zone: any) => zone.RegionName,
  'group-name': (zone: any) => zone.GroupName,
  'opt-in-status': (zone: any) => zone.OptInStatus,
  state: (zone: any) => zone.State,
};

const regionFilters = {
  'region-name': (region: any) => region.RegionName,
  endpoint: (region: any) => region.Endpoint,
  'opt-in-status': (region: any) => region.OptInStatus,
};

export const zoneOperations = {
  DescribeAvailabilityZones(input: DescribeAvailabilityZonesRequest, call: CallContext): DescribeAvailabilityZonesResult {
    const all = call.zones.map((zone) => ({
      ZoneName: zone,
      ZoneId: zoneId(call, zone),
      ZoneType: 'availability-zone',
      RegionName: call.region,
      GroupName: call.region,
      NetworkBorderGroup: call.region,
      OptInStatus: 'opt-in-not-required' as const,
      State: 'available' as const,
      Messages: [],
    }));
    for (const name of input.ZoneNames ?? []) if (!call.zones.includes(name)) throw invalidParameter(`Invalid availability zone: [${name}]`);
    const wanted = all.filter(
      (zone) =>
        (!input.ZoneNames?.length || input.ZoneNames.includes(zone.ZoneName)) && (!input.ZoneIds?.length || input.ZoneIds.includes(zone.ZoneId)),
    );
    return { AvailabilityZones: wanted.filter(filterBy<any>(input.Filters, zoneFilters)) };
  },

  DescribeRegions(input: DescribeRegionsRequest, call: CallContext): DescribeRegionsResult {
    const all = [{ RegionName: call.region, Endpoint: `ec2.${call.region}.amazonaws.com`, OptInStatus: 'opt-in-not-required' }];
    for (const name of input.RegionNames ?? []) {
      if (name !== call.region) throw invalidParameter(`Invalid region provided: ${name}`);
    }
    return { Regions: all.filter(filterBy<any>(input.Filters, regionFilters)) };
  },

  DescribeAccountAttributes(input: DescribeAccountAttributesRequest, _call: CallContext): DescribeAccountAttributesResult {
    const attributes: Record<string, string[]> = {
      'supported-platforms': ['VPC'],
      'default-vpc': ['none'],
      'max-instances': ['1000'],
      'vpc-max-security-groups-per-interface': ['5'],
      'max-elastic-ips': ['20'],
      'vpc-max-elastic-ips': ['20'],
    };
    for (const name of input.AttributeNames ?? []) {
      if (!Object.hasOwn(attributes, name)) throw new AwsError('InvalidParameterValue', `Value (${name}) for parameter attributeName is invalid.`);
    }
    const wanted = input.AttributeNames?.length ? input.AttributeNames : Object.keys(attributes);
    return {
      AccountAttributes: wanted.map((name) => ({
        AttributeName: name,
        AttributeValues: attributes[name]!.map((value) => ({ AttributeValue: value })),
      })),
    };
  },
} satisfies Operations;
