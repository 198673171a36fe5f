import type { DescribeImagesRequest, DescribeImagesResult, Image } from '@aws-sdk/client-ec2';
import type { CallContext, Cloud, Operations } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import { stableEc2Id } from '../ids.ts';
import { filterBy, notFound, paginate } from './describe.ts';
import { names } from './names.ts';

/** The embedded AWS's one image: the host's own Linux, with the kumulus command in it. */
export const nodeImageId = stableEc2Id('ami', 'kumulus-node');
const created = '2026-01-01T00:00:00.000Z';

type DescribedImage = Image & { ImageId: string; Tags?: [] };

export function images(cloud: Cloud): DescribedImage[] {
  return [
    {
      ImageId: nodeImageId,
      Name: 'kumulus-node',
      Description: 'The host of the embedded AWS, as an overlay',
      Architecture: process.arch === 'arm64' ? 'arm64' : 'x86_64',
      CreationDate: created,
      ImageLocation: 'amazon/kumulus-node',
      ImageOwnerAlias: 'amazon',
      ImageType: 'machine',
      OwnerId: cloud.accountId,
      Public: true,
      PlatformDetails: 'Linux/UNIX',
      UsageOperation: 'RunInstances',
      RootDeviceName: '/dev/xvda',
      RootDeviceType: 'ebs',
      VirtualizationType: 'hvm',
      Hypervisor: 'xen',
      EnaSupport: true,
      SriovNetSupport: 'simple',
      State: 'available',
      BootMode: 'uefi-preferred',
      ImdsSupport: 'v2.0',
      BlockDeviceMappings: [],
      Tags: [],
    },
  ];
}

/**
 * The image of an id, or of a parameter's name after `resolve:ssm:`. Throws InvalidAMIID.NotFound, InvalidAMIID.Malformed, and for
 * parameters that are not there InvalidParameterValue.
 */
export function findImage(cloud: Cloud, id: string | undefined): DescribedImage {
  if (!id) throw new AwsError('MissingParameter', 'The request must contain the parameter ImageId');
  let wanted = id;
  if (id.startsWith('resolve:ssm:')) {
    const name = id.slice('resolve:ssm:'.length);
    const value = publicParameter(name) ?? cloud.tables.parameters.get(name)?.Value;
    if (value === undefined) throw new AwsError('InvalidParameterValue', `The parameter ${name} does not exist in Systems Manager`);
    wanted = value;
  }
  const image = images(cloud).find((one) => one.ImageId === wanted);
  if (!image) throw notFound(names.image, wanted);
  return image;
}

/** The value of a parameter that AWS itself publishes. All of them name the one image. */
export function publicParameter(name: string): string | undefined {
  return publicParameters.find((one) => one.test(name)) ? nodeImageId : undefined;
}

const publicParameters = [
  /^\/aws\/service\/kumulus\/node\/recommended\/image_id$/,
  /^\/aws\/service\/debian\/release\/12\/latest\/(amd64|arm64)$/,
  /^\/aws\/service\/canonical\/ubuntu\/server\/24\.04\/stable\/current\/(amd64|arm64)\/hvm\/ebs-gp3\/ami-id$/,
];
/** Those that have a fixed name, for listings. */
export const publicParameterNames = [
  '/aws/service/kumulus/node/recommended/image_id',
  '/aws/service/debian/release/12/latest/amd64',
  '/aws/service/debian/release/12/latest/arm64',
];

const filters = {
  'image-id': (i: Image) => i.ImageId,
  name: (i: Image) => i.Name,
  description: (i: Image) => i.Description,
  architecture: (i: Image) => i.Architecture,
  state: (i: Image) => i.State,
  'owner-id': (i: Image) => i.OwnerId,
  'owner-alias': (i: Image) => i.ImageOwnerAlias,
  'image-type': (i: Image) => i.ImageType,
  'is-public': (i: Image) => String(i.Public),
  'root-device-type': (i: Image) => i.RootDeviceType,
  'virtualization-type': (i: Image) => i.VirtualizationType,
  hypervisor: (i: Image) => i.Hypervisor,
  'ena-support': (i: Image) => String(i.EnaSupport),
};

export const imageOperations = {
  DescribeImages(input: DescribeImagesRequest, call: CallContext): DescribeImagesResult {
    const all = images(call);
    for (const id of input.ImageIds ?? []) if (!all.some((one) => one.ImageId === id)) throw notFound(names.image, id);
    const owners = new Map([['self', call.accountId]]);
    const found = all
      .filter((one) => !input.ImageIds?.length || input.ImageIds.includes(one.ImageId))
      .filter(
        (one) => !input.Owners?.length || input.Owners.some((owner) => owner === one.ImageOwnerAlias || (owners.get(owner) ?? owner) === one.OwnerId),
      )
      .filter(filterBy(input.Filters, filters));
    const page = paginate(found, (one) => one.ImageId, input);
    return { Images: page.items, NextToken: page.NextToken };
  },
} satisfies Operations;
