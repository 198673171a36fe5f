import { DescribeInstancesCommand, type Instance, type Filter } from '@aws-sdk/client-ec2';
import { hasCode } from '../../aws/clients.ts';
import type { Node, NodeAddress } from '../../api/generated/types.ts';
import type { InstanceMetadata, Instances } from '../provider.ts';
import type { AwsProviderOptions } from './provider.ts';

/** Milliseconds in which lookups are gathered into one call. */
const gatherMs = 5;

/** i-… of aws:///ZONE/i-…; undefined for ids of other forms. */
export function instanceIdOf(providerId: string | undefined): string | undefined {
  return /^aws:\/\/\/?[^/]*\/(i-[0-9a-f]+)$/.exec(providerId ?? '')?.[1];
}

interface Waiting {
  resolve(found: Instance | undefined): void;
  reject(error: unknown): void;
}

/** Instances by id or private DNS name. Lookups of the same moment are one DescribeInstances. */
export class AwsInstances implements Instances {
  private readonly o: AwsProviderOptions;
  private readonly waiting = { id: new Map<string, Waiting[]>(), name: new Map<string, Waiting[]>() };
  private timer: NodeJS.Timeout | undefined;

  constructor(o: AwsProviderOptions) {
    this.o = o;
  }

  /** The node's instance; undefined where it is gone. */
  find(node: Node): Promise<Instance | undefined> {
    const id = instanceIdOf(node.spec.providerID);
    return id ? this.lookUp('id', id) : this.lookUp('name', node.metadata.name);
  }

  private lookUp(kind: 'id' | 'name', key: string): Promise<Instance | undefined> {
    return new Promise((resolve, reject) => {
      const list = this.waiting[kind].get(key) ?? [];
      list.push({ resolve, reject });
      this.waiting[kind].set(key, list);
      this.timer ??= setTimeout(() => {
        this.timer = undefined;
        void this.answer('id');
        void this.answer('name');
      }, gatherMs);
    });
  }

  private async answer(kind: 'id' | 'name'): Promise<void> {
    const asked = this.waiting[kind];
    if (!asked.size) return;
    this.waiting[kind] = new Map();
    try {
      const keys = [...asked.keys()];
      const found = await this.describe([{ Name: kind === 'id' ? 'instance-id' : 'private-dns-name', Values: keys }]);
      // A terminated instance has lost its name, or shares it with the next one; the one that lives counts.
      const alive = found.filter((one) => one.State?.Name !== 'terminated');
      for (const [key, list] of asked) {
        const instance = alive.find((one) => (kind === 'id' ? one.InstanceId : one.PrivateDnsName) === key);
        for (const one of list) one.resolve(instance);
      }
    } catch (error) {
      for (const list of asked.values()) for (const one of list) one.reject(error);
    }
  }

  /** Every instance of the VPC that a filter fits, page by page. A filter takes 200 values. */
  async describe(filters: Filter[]): Promise<Instance[]> {
    const ec2 = await this.o.clients.ec2();
    const found: Instance[] = [];
    const [first, ...rest] = filters;
    const values = first?.Values ?? [];
    for (let at = 0; at < Math.max(1, values.length); at += 200) {
      let token: string | undefined;
      do {
        const Filters = first ? [{ ...first, Values: values.slice(at, at + 200) }, ...rest] : [];
        const page = await ec2.send(new DescribeInstancesCommand({ Filters, ...(token ? { NextToken: token } : {}) }));
        for (const reservation of page.Reservations ?? []) found.push(...(reservation.Instances ?? []));
        token = page.NextToken;
      } while (token);
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
