import type {
  _InstanceType,
  DescribeInstanceTypeOfferingsRequest,
  DescribeInstanceTypeOfferingsResult,
  DescribeInstanceTypesRequest,
  DescribeInstanceTypesResult,
  InstanceTypeInfo,
} from '@aws-sdk/client-ec2';
import type { CallContext, Operations } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import { filterBy, paginate } from './describe.ts';

interface Size {
  size: string;
  vcpus: number;
  /** Network interfaces, and addresses of each. */
  interfaces: number;
  addresses: number;
}

const burstable: Size[] = [
  { size: 'nano', vcpus: 2, interfaces: 2, addresses: 2 },
  { size: 'micro', vcpus: 2, interfaces: 2, addresses: 2 },
  { size: 'small', vcpus: 2, interfaces: 3, addresses: 4 },
  { size: 'medium', vcpus: 2, interfaces: 3, addresses: 6 },
  { size: 'large', vcpus: 2, interfaces: 3, addresses: 12 },
  { size: 'xlarge', vcpus: 4, interfaces: 4, addresses: 15 },
  { size: '2xlarge', vcpus: 8, interfaces: 4, addresses: 15 },
];
const burstableMiB: Record<string, number> = { nano: 512, micro: 1024, small: 2048, medium: 4096, large: 8192, xlarge: 16_384, '2xlarge': 32_768 };
const fixed: Size[] = [
  { size: 'large', vcpus: 2, interfaces: 3, addresses: 10 },
  { size: 'xlarge', vcpus: 4, interfaces: 4, addresses: 15 },
  { size: '2xlarge', vcpus: 8, interfaces: 4, addresses: 15 },
  { size: '4xlarge', vcpus: 16, interfaces: 8, addresses: 30 },
  { size: '8xlarge', vcpus: 32, interfaces: 8, addresses: 30 },
];

/** Family, processor, GiB a vCPU (0: burstable sizes). Figures are those of AWS's instance type pages. */
const families: [string, 'x86_64' | 'arm64', number][] = [
  ['t3', 'x86_64', 0],
  ['t3a', 'x86_64', 0],
  ['t4g', 'arm64', 0],
  ['m5', 'x86_64', 4],
  ['m6i', 'x86_64', 4],
  ['m6g', 'arm64', 4],
  ['m7i', 'x86_64', 4],
  ['m7g', 'arm64', 4],
  ['c5', 'x86_64', 2],
  ['c6i', 'x86_64', 2],
  ['c6g', 'arm64', 2],
  ['c7g', 'arm64', 2],
  ['r5', 'x86_64', 8],
  ['r6i', 'x86_64', 8],
  ['r6g', 'arm64', 8],
];

function describeType(
  family: string,
  architecture: 'x86_64' | 'arm64',
  perCpu: number,
  size: Size,
): InstanceTypeInfo & { InstanceType: _InstanceType } {
  return {
    InstanceType: `${family}.${size.size}` as _InstanceType,
    CurrentGeneration: true,
    FreeTierEligible: false,
    SupportedUsageClasses: ['on-demand', 'spot'],
    SupportedRootDeviceTypes: ['ebs'],
    SupportedVirtualizationTypes: ['hvm'],
    BareMetal: false,
    Hypervisor: 'nitro',
    ProcessorInfo: { SupportedArchitectures: [architecture] },
    VCpuInfo: {
      DefaultVCpus: size.vcpus,
      DefaultCores: architecture === 'arm64' ? size.vcpus : size.vcpus / 2,
      DefaultThreadsPerCore: architecture === 'arm64' ? 1 : 2,
    },
    MemoryInfo: { SizeInMiB: perCpu === 0 ? burstableMiB[size.size]! : size.vcpus * perCpu * 1024 },
    InstanceStorageSupported: false,
    EbsInfo: { EbsOptimizedSupport: 'default', EncryptionSupport: 'supported', NvmeSupport: 'required' },
    NetworkInfo: {
      MaximumNetworkInterfaces: size.interfaces,
      MaximumNetworkCards: 1,
      Ipv4AddressesPerInterface: size.addresses,
      Ipv6Supported: true,
      EnaSupport: 'required',
    },
    PlacementGroupInfo: { SupportedStrategies: ['partition', 'spread'] },
    BurstablePerformanceSupported: perCpu === 0,
    AutoRecoverySupported: true,
  };
}

const types = new Map(
  families
    .flatMap(([family, architecture, perCpu]) => (perCpu === 0 ? burstable : fixed).map((size) => describeType(family, architecture, perCpu, size)))
    .map((type) => [type.InstanceType as string, type]),
);

/** Throws InvalidInstanceType, as DescribeInstanceTypes does; RunInstances says InvalidParameterValue. */
export function findInstanceType(name: string): InstanceTypeInfo & { InstanceType: _InstanceType } {
  const found = types.get(name);
  if (!found) throw new AwsError('InvalidInstanceType', `The following supplied instance types do not exist: [${name}]`);
  return found;
}

/** What a machine of a type has, for those who play one. */
export function instanceSize(name: string): { cpu: number; memoryMiB: number; architecture: 'amd64' | 'arm64' } {
  const { VCpuInfo, MemoryInfo, ProcessorInfo } = findInstanceType(name);
  const arm = ProcessorInfo?.SupportedArchitectures?.[0] === 'arm64';
  return { cpu: VCpuInfo?.DefaultVCpus ?? 0, memoryMiB: MemoryInfo?.SizeInMiB ?? 0, architecture: arm ? 'arm64' : 'amd64' };
}

const filters = {
  'instance-type': (t: InstanceTypeInfo) => t.InstanceType,
  'current-generation': (t: InstanceTypeInfo) => String(t.CurrentGeneration),
  'processor-info.supported-architecture': (t: InstanceTypeInfo) => t.ProcessorInfo?.SupportedArchitectures,
  'vcpu-info.default-vcpus': (t: InstanceTypeInfo) => String(t.VCpuInfo?.DefaultVCpus),
  'memory-info.size-in-mib': (t: InstanceTypeInfo) => String(t.MemoryInfo?.SizeInMiB),
  'burstable-performance-supported': (t: InstanceTypeInfo) => String(t.BurstablePerformanceSupported),
  'bare-metal': (t: InstanceTypeInfo) => String(t.BareMetal),
  hypervisor: (t: InstanceTypeInfo) => t.Hypervisor,
  'supported-usage-class': (t: InstanceTypeInfo) => t.SupportedUsageClasses,
  'supported-root-device-type': (t: InstanceTypeInfo) => t.SupportedRootDeviceTypes,
  'instance-storage-supported': (t: InstanceTypeInfo) => String(t.InstanceStorageSupported),
  'network-info.ena-support': (t: InstanceTypeInfo) => t.NetworkInfo?.EnaSupport,
};

export const instanceTypeOperations = {
  DescribeInstanceTypes(input: DescribeInstanceTypesRequest, _call: CallContext): DescribeInstanceTypesResult {
    const wanted = input.InstanceTypes?.length ? input.InstanceTypes.map(findInstanceType) : [...types.values()];
    const page = paginate(
      wanted.filter(filterBy<InstanceTypeInfo & { Tags?: never }>(input.Filters, filters) as never),
      (t) => t.InstanceType,
      input,
    );
    return { InstanceTypes: page.items, NextToken: page.NextToken };
  },

  DescribeInstanceTypeOfferings(input: DescribeInstanceTypeOfferingsRequest, call: CallContext): DescribeInstanceTypeOfferingsResult {
    const locations = input.LocationType === 'availability-zone' ? call.zones : [call.region];
    const offers = [...types.values()].flatMap((type) =>
      locations.map((Location) => ({ InstanceType: type.InstanceType, LocationType: input.LocationType ?? ('region' as const), Location })),
    );
    const found = offers.filter(
      filterBy<(typeof offers)[number] & { Tags?: never }>(input.Filters, {
        'instance-type': (o) => o.InstanceType,
        location: (o) => o.Location,
      }) as never,
    );
    const page = paginate(found, (o) => `${o.InstanceType} ${o.Location}`, input);
    return { InstanceTypeOfferings: page.items, NextToken: page.NextToken };
  },
} satisfies Operations;
