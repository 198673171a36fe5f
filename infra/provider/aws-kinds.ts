import { handlers } from '../../src/aws/ensure.ts';
import type { HandlerContext, ResourceHandler } from '../../src/aws/handlers/handler.ts';
import { clusterTag, logicalIdTag, ownershipTags } from '../../src/aws/tags.ts';
import type { ResourceKind as AwsKind } from '../../src/aws/topology.ts';
import { toAws, toPulumi } from './naming.ts';
import { type AttributeSchema, type Made, PartialFailure, type PropertySchema, type ResourceContext, type ResourceKind } from './resource.ts';
import type { Properties } from './values.ts';

const text = (description: string, more: Partial<PropertySchema> = {}): PropertySchema => ({ type: 'string', description, required: true, ...more });
const fixed = (description: string, more: Partial<PropertySchema> = {}): PropertySchema => text(description, { replaces: true, ...more });
const texts = (description: string, more: Partial<PropertySchema> = {}): PropertySchema => ({
  type: 'list',
  description,
  required: true,
  items: { type: 'string', description: 'one' },
  ...more,
});

interface Description {
  description: string;
  properties: Record<string, PropertySchema>;
  attributes?: Record<string, AttributeSchema>;
}

/** What the provider knows of the kinds in src/aws beyond their handlers: the words for people, and what a change means. */
const descriptions: Record<AwsKind, Description> = {
  'ec2:Vpc': {
    description: 'A virtual private cloud.',
    properties: {
      cidrBlock: fixed('Range of addresses.'),
      enableDnsHostnames: { type: 'boolean', description: 'Whether instances get DNS names.', default: true },
    },
  },
  'ec2:InternetGateway': {
    description: 'The way out of a VPC.',
    // Detached it is attached again; another VPC gets another gateway.
    properties: { vpcId: text('The VPC that it is attached to.', { replaces: 'when known' }) },
  },
  'ec2:Subnet': {
    description: 'A range of a VPC in one availability zone.',
    properties: {
      vpcId: fixed('The VPC.'),
      cidrBlock: fixed("Range within the VPC's."),
      availabilityZone: fixed('The zone.'),
      mapPublicIpOnLaunch: { type: 'boolean', description: 'Whether instances get a public address.', default: false },
    },
  },
  'ec2:RouteTable': {
    description: 'Routes, and the subnets that they hold for. Routes of others (pod routes) in it stay.',
    properties: {
      vpcId: fixed('The VPC.'),
      routes: {
        type: 'list',
        description: 'Routes besides the local one.',
        items: {
          type: 'object',
          description: 'A route.',
          properties: { destinationCidrBlock: text('Where packets go to.'), gatewayId: text('The gateway that takes them.') },
        },
      },
      subnetIds: texts('Subnets associated with the table.', { required: false }),
    },
  },
  'ec2:SecurityGroup': {
    description: "A firewall around network interfaces. Rules of others (the service controller's) in it stay.",
    properties: {
      vpcId: fixed('The VPC.'),
      groupName: fixed('Unique in the VPC.'),
      description: fixed('What it is for.'),
      ingress: {
        type: 'list',
        description: 'What is let in.',
        items: {
          type: 'object',
          description: 'A rule with one source.',
          properties: {
            ipProtocol: text('tcp, udp, icmp, or -1 for all.'),
            fromPort: { type: 'integer', description: 'First port.' },
            toPort: { type: 'integer', description: 'Last port.' },
            cidrIp: text('Range that may come in.', { required: false }),
            sourceGroup: text("A group's id, or self.", { required: false }),
          },
        },
      },
    },
  },
  'ec2:NetworkInterface': {
    description: 'A network interface.',
    properties: { subnetId: fixed('The subnet.'), groups: texts('Ids of its security groups.'), description: fixed('What it is for.') },
    attributes: { privateIpAddress: { description: 'Its address.' } },
  },
  'ec2:LaunchTemplate': {
    description: 'What instances are launched from. Every change makes a new version. Instances answer IMDSv2 only.',
    properties: {
      name: fixed('Unique in account and region.'),
      imageId: text("An AMI's id, or resolve:ssm:PARAMETER."),
      instanceType: text('The EC2 instance type.'),
      instanceProfile: text('Name of the instance profile.'),
      userData: text('What an instance runs at its first boot; at most 16 KiB, not base64.', { secret: true }),
    },
    attributes: { version: { description: 'Number of the newest version.', changes: true } },
  },
  'ec2:Instance': {
    description: 'An instance, launched from a template.',
    properties: {
      launchTemplateId: fixed('The launch template.'),
      launchTemplateVersion: fixed("The template's version."),
      subnetId: fixed('The subnet.'),
      securityGroupIds: texts('Ids of security groups.'),
      instanceProfile: fixed('Name of the instance profile, as in the template.'),
      privateIpAddress: fixed("An address of the subnet, of EC2's choice where left out.", { required: false }),
    },
    attributes: {
      privateIpAddress: { description: 'Its address in the VPC.' },
      publicIpAddress: { description: 'Its public address, or nothing.' },
      privateDnsName: { description: 'Its private DNS name, which is the name of its node.' },
    },
  },
  'ec2:Volume': {
    description: 'An encrypted gp3 volume that outlives the instances it is attached to.',
    properties: {
      availabilityZone: fixed('The zone.'),
      size: { type: 'integer', description: 'GiB; it can only grow.', required: true },
    },
  },
  'elbv2:LoadBalancer': {
    description: 'A network load balancer.',
    properties: {
      name: fixed('At most 32 characters, unique in account and region.'),
      scheme: fixed('Whether the internet reaches it.', { oneOf: ['internet-facing', 'internal'] }),
      subnetIds: texts('A subnet a zone.'),
    },
    attributes: {
      dnsName: { description: 'Its DNS name.' },
      hostAddress: { description: 'Where it listens on the host of the data plane; empty on AWS itself.' },
    },
  },
  'elbv2:TargetGroup': {
    description: 'A TCP target group of instances.',
    properties: {
      name: fixed('At most 32 characters, unique in account and region.'),
      vpcId: fixed('The VPC.'),
      port: { type: 'integer', description: 'Port of the targets.', required: true, replaces: true },
      targetIds: texts('Ids of instances.'),
    },
  },
  'elbv2:Listener': {
    description: 'A TCP listener of a load balancer that forwards to one target group.',
    properties: {
      loadBalancerArn: fixed('The load balancer.'),
      port: { type: 'integer', description: 'The port that it listens on.', required: true, replaces: true },
      targetGroupArn: text('The target group.'),
    },
  },
  'iam:InstanceProfile': {
    description: 'An instance profile with a role of the same name that EC2 may assume.',
    properties: {
      name: fixed('Unique in the account.'),
      managedPolicies: texts('ARNs of managed policies.', { required: false }),
      policyDocument: text("JSON of a policy of the role's own.", { required: false }),
    },
    attributes: { arn: { description: 'ARN of the profile.' } },
  },
  'ssm:Parameter': {
    description: 'A parameter of Systems Manager.',
    properties: {
      name: fixed('Begins with a slash.'),
      type: fixed('How it is kept.', { oneOf: ['String', 'SecureString'] }),
      value: text('At most 4 KiB.', { secret: true }),
    },
  },
};

const ownership: Record<string, PropertySchema> = {
  cluster: text('The cluster that it belongs to; part of its tags.', { replaces: 'when known' }),
  logicalId: text('What it is in the cluster; by this and the cluster it is found again.', { replaces: 'when known' }),
  tags: { type: 'map', description: 'Tags besides those that say whose it is.', items: { type: 'string', description: 'value' } },
};

/** A kind of src/aws as a resource of the provider. */
function awsKind(name: AwsKind): ResourceKind {
  const { description, properties, attributes = {} } = descriptions[name];
  const handler: ResourceHandler<any> = handlers[name];
  const own = Object.keys(properties);
  const propertiesOf = (inputs: Properties) => toAws(Object.fromEntries(own.filter((k) => inputs[k] !== undefined).map((k) => [k, inputs[k]]))) as any;
  const attributesOf = (found: { attributes: Record<string, string> }) => toPulumi(found.attributes) as Properties;
  const handlerContext = (context: ResourceContext, inputs: Properties): HandlerContext => ({ ...context, cluster: String(inputs['cluster'] ?? '') });
  const tagsOf = (inputs: Properties) =>
    ownershipTags(String(inputs['cluster']), String(inputs['logicalId']), (inputs['tags'] as Record<string, string> | undefined) ?? {});

  async function settled(context: HandlerContext, id: string, inputs: Properties): Promise<Made> {
    await handler.settle?.(context, id);
    const found = await handler.read(context, id, propertiesOf(inputs));
    if (!found) throw new Error(`${name} ${id} is gone as soon as it was made`);
    return { id, attributes: attributesOf(found) };
  }

  return {
    token: `kumulus:${name}`,
    description,
    properties: { ...ownership, ...properties },
    attributes,

    async create(resourceContext, inputs) {
      const context = handlerContext(resourceContext, inputs);
      const [logicalId, wanted, tags] = [String(inputs['logicalId']), propertiesOf(inputs), tagsOf(inputs)];
      const found = await handler.find(context, logicalId, wanted);
      const existing = found ?? (await handler.create(context, logicalId, wanted, tags));
      try {
        if (found) await handler.tag(context, found.id, tags, []);
        await handler.repair?.(context, existing, wanted);
        return await settled(context, existing.id, inputs);
      } catch (error) {
        throw new PartialFailure({ id: existing.id, attributes: attributesOf(existing) }, error);
      }
    },

    async read(resourceContext, id, inputs) {
      const context = handlerContext(resourceContext, inputs ?? {});
      const found = await handler.read(context, id, inputs && propertiesOf(inputs));
      if (!found) return undefined;
      const properties = toPulumi(found.properties) as Properties;
      const told = inputs ? Object.fromEntries(own.filter((k) => k in inputs).map((k) => [k, properties[k]])) : properties;
      return { id, attributes: attributesOf(found), inputs: { ...told, ...readOwnership(found.tags, inputs) } };
    },

    async update(resourceContext, id, inputs, previous) {
      const context = handlerContext(resourceContext, inputs);
      const [wanted, before] = [propertiesOf(inputs), propertiesOf(previous)];
      const existing = { id, attributes: {} };
      try {
        const unset = Object.keys((previous['tags'] as object | undefined) ?? {}).filter((key) => !(key in tagsOf(inputs)));
        if (JSON.stringify(tagsOf(inputs)) !== JSON.stringify(tagsOf(previous))) await handler.tag(context, id, tagsOf(inputs), unset);
        await handler.repair?.(context, existing, wanted, before);
        return await settled(context, id, inputs);
      } catch (error) {
        throw new PartialFailure({ id, attributes: {} }, error);
      }
    },

    async delete(resourceContext, id, inputs) {
      await handler.remove(handlerContext(resourceContext, inputs), { id, attributes: {} }, propertiesOf(inputs));
    },
  };
}

/** Cluster, logical id and tags: as declared where the declaration says so, from the tags that are there otherwise. */
function readOwnership(tags: Record<string, string> | undefined, inputs: Properties | undefined): Properties {
  if (!tags) return inputs ? { cluster: inputs['cluster'], logicalId: inputs['logicalId'], tags: inputs['tags'] } : {};
  const owner = Object.keys(tags).find((key) => key.startsWith(clusterTag('')) && tags[key] === 'owned');
  const cluster = inputs?.['cluster'] ?? owner?.slice(clusterTag('').length);
  const logicalId = inputs?.['logicalId'] ?? tags[logicalIdTag];
  const declared = inputs?.['tags'] as Record<string, string> | undefined;
  const ownKeys = new Set([...(owner ? [owner] : []), logicalIdTag, 'Name']);
  const shown = Object.entries(tags).filter(([key]) => (inputs ? declared && key in declared : !ownKeys.has(key)));
  return { cluster, logicalId, ...(declared || shown.length ? { tags: Object.fromEntries(shown) } : {}) };
}

export const awsKinds: ResourceKind[] = (Object.keys(descriptions) as AwsKind[]).map(awsKind);
