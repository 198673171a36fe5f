import { DescribeInstancesCommand, type Instance, type Filter } from '@aws-sdk/client-ec2';
import { hasCode } from '../../aws/clients.ts';
import type { Node, NodeAddress } from '../../api/generated/types.ts';
import type { InstanceMetadata, Instances } from '../provider.ts';
import { everyPage, Gather } from './gather.ts';
import type { AwsProviderOptions } from './provider.ts';

/** i-… of aws:///ZONE/i-…; undefined for ids of other forms. */
export function instanceIdOf(providerId: string | undefined): string | undefined {
  return /^aws:\/\/\/?[^/]*\/(i-[0-9a-f]+)$/.exec(providerId ?? '')?.[1];
}

/** Instances by id or private DNS name. Lookups of the same moment are one DescribeInstances. */
export class AwsInstances implements Instances {
  private readonly o: AwsProviderOptions;
  private readonly byId = new Gather<Instance>((ids) => this.lookUp('instance-id', ids, (one) => one.InstanceId));
  /** By private DNS name, as Nodes are called. */
  readonly byName = new Gather<Instance>((names) => this.lookUp('private-dns-name', names, (one) => one.PrivateDnsName));

  constructor(o: AwsProviderOptions) {
    this.o = o;
  }

  /** The node's instance; undefined where it is gone. */
  find(node: Node): Promise<Instance | undefined> {
    const id = instanceIdOf(node.spec.providerID);
    return id ? this.byId.find(id) : this.byName.find(node.metadata.name);
  }

  private async lookUp(filter: string, keys: string[], keyOf: (one: Instance) => string | undefined): Promise<Map<string, Instance>> {
    const found = await this.describe([{ Name: filter, Values: keys }]);
    // A terminated instance has lost its name, or shares it with the next one; the one that lives counts.
    const alive = found.filter((one) => one.State?.Name !== 'terminated');
    return new Map(alive.map((one) => [keyOf(one) ?? '', one]));
  }

  /** Every instance that a filter fits, page by page. A filter takes 200 values. */
  async describe(filters: Filter[]): Promise<Instance[]> {
    const ec2 = await this.o.clients.ec2();
    const found: Instance[] = [];
    const [first, ...rest] = filters;
    const values = first?.Values ?? [];
    for (let at = 0; at < Math.max(1, values.length); at += 200) {
      const Filters = first ? [{ ...first, Values: values.slice(at, at + 200) }, ...rest] : [];
      const reservations = await everyPage(
        (NextToken) => ec2.send(new DescribeInstancesCommand({ Filters, ...(NextToken ? { NextToken } : {}) })),
        (page) => page.Reservations,
        (page) => page.NextToken,
      );
      for (const reservation of reservations) found.push(...(reservation.Instances ?? []));
    }
    return found;
  }

  async exists(node: Node): Promise<boolean> {
    return (await this.find(node)) !== undefined;
  }

  async shutdown(node: Node): Promise<boolean> {
    const state = (await this.find(node))?.State?.Name;
    return state === 'stopped' || state === 'stopping';
  }

  async metadata(node: Node): Promise<InstanceMetadata> {
    const instance = await this.find(node).catch((error) => {
      throw hasCode(error, 'InvalidInstanceID.NotFound') ? new Error('instance not found') : error;
    });
    if (!instance?.InstanceId) throw new Error(`instance not found: ${node.spec.providerID ?? node.metadata.name}`);
    const zone = instance.Placement?.AvailabilityZone ?? '';
    return {
      providerId: `aws:///${zone}/${instance.InstanceId}`,
      instanceType: instance.InstanceType ?? '',
      zone,
      region: zone.replace(/[a-z]$/, ''),
      addresses: addressesOf(instance),
      additionalLabels: {},
    };
  }
}

function addressesOf(instance: Instance): NodeAddress[] {
  const addresses: NodeAddress[] = [];
  const add = (type: string, address: string | undefined) => {
    if (address) addresses.push({ type, address });
  };
  add('InternalIP', instance.PrivateIpAddress);
  add('ExternalIP', instance.PublicIpAddress);
  add('InternalDNS', instance.PrivateDnsName);
  add('Hostname', instance.PrivateDnsName);
  add('ExternalDNS', instance.PublicDnsName);
  return addresses;
}
