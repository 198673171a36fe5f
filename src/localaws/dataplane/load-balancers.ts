import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Listener, LoadBalancer } from '@aws-sdk/client-elastic-load-balancing-v2';
import type { CloudState } from '../contract.ts';
import { parseBlock, toAddress } from './addresses.ts';
import { interfacesOf } from './interfaces.ts';
import type { BalancerAddress } from './vpc-plan.ts';

/** Where one load balancer listens. */
export interface Balancer {
  arn: string;
  vpcId: string;
  dnsName: string;
  /** In the VPC, one a subnet. */
  addresses: string[];
  /** 127.64.X.Y on the host; only an internet-facing one has it. */
  hostAddress?: string;
  groups: string[];
  listeners: Listener[];
  shape: LoadBalancer;
}

interface Saved {
  host?: string;
  /** Addresses by subnet, where the endpoint names none. */
  subnets: Record<string, string>;
}

export const hostAddressFile = (directory: string) => join(directory, 'dataplane/load-balancers.json');

/** Gives load balancers their addresses and keeps them for as long as the load balancers live, over restarts too. */
export class LoadBalancers {
  private readonly file: string;
  private saved: Map<string, Saved> | undefined;

  constructor(file: string) {
    this.file = file;
  }

  hostAddress(arn: string): string | undefined {
    return this.saved?.get(arn)?.host;
  }

  async plan(state: CloudState): Promise<Balancer[]> {
    this.saved ??= await this.read();
    const before = JSON.stringify([...this.saved]);
    const alive = new Set(state.loadBalancers.map((one) => one.LoadBalancerArn));
    for (const arn of this.saved.keys()) if (!alive.has(arn)) this.saved.delete(arn);
    const balancers: Balancer[] = [];
    for (const shape of state.loadBalancers) {
      if (!shape.LoadBalancerArn || !shape.VpcId || shape.State?.Code === 'failed') continue;
      const saved = this.saved.get(shape.LoadBalancerArn) ?? { subnets: {} };
      this.saved.set(shape.LoadBalancerArn, saved);
      if (shape.Scheme !== 'internal') saved.host ??= await this.freeHostAddress(shape.LoadBalancerArn);
      balancers.push({
        arn: shape.LoadBalancerArn,
        vpcId: shape.VpcId,
        dnsName: shape.DNSName ?? '',
        addresses: this.vpcAddresses(state, shape, saved),
        hostAddress: shape.Scheme === 'internal' ? undefined : saved.host,
        groups: shape.SecurityGroups ?? [],
        listeners: state.listeners.filter((one) => one.LoadBalancerArn === shape.LoadBalancerArn),
        shape,
      });
    }
    if (JSON.stringify([...this.saved]) !== before) await this.write();
    return balancers;
  }

  /** The addresses that the endpoint names, those of the interfaces it made for the load balancer, else the highest free ones of its subnets. */
  private vpcAddresses(state: CloudState, shape: LoadBalancer, saved: Saved): string[] {
    const interfaces = interfacesOf(state);
    const description = `ELB ${shape.LoadBalancerArn!.split(':loadbalancer/')[1]}`;
    const own = interfaces.filter((one) => one.description === description);
    const taken = new Set([...interfaces.flatMap((one) => one.addresses), ...[...this.saved!.values()].flatMap((one) => Object.values(one.subnets))]);
    return (shape.AvailabilityZones ?? []).flatMap((zone) => {
      const named = (zone.LoadBalancerAddresses ?? []).flatMap((one) => one.PrivateIPv4Address ?? []);
      if (named.length) return named;
      const found = own.filter((one) => one.subnetId === zone.SubnetId).map((one) => one.addresses[0]);
      if (found.length) return found;
      const subnet = state.subnets.find((one) => one.SubnetId === zone.SubnetId);
      if (!subnet?.CidrBlock) return [];
      if (!saved.subnets[subnet.SubnetId!]) {
        const block = parseBlock(subnet.CidrBlock);
        let candidate = block.last - 1;
        while (taken.has(toAddress(candidate)) && candidate > block.first + 4) candidate--;
        saved.subnets[subnet.SubnetId!] = toAddress(candidate);
      }
      return [saved.subnets[subnet.SubnetId!]];
    });
  }

  /** From the name, so that a load balancer keeps its address as far as can be; not one where another program listens, such as another cluster's. */
  private async freeHostAddress(arn: string): Promise<string> {
    const taken = await listeningAddresses();
    for (const saved of this.saved!.values()) if (saved.host) taken.add(saved.host);
    for (let attempt = 0; attempt < 1000; attempt++) {
      const hash = createHash('sha256').update(`${arn}#${attempt}`).digest();
      const address = `127.64.${hash[0]}.${1 + (hash[1] % 254)}`;
      if (!taken.has(address)) return address;
    }
    throw new Error('no address is free in 127.64.0.0/16');
  }

  private async read(): Promise<Map<string, Saved>> {
    const text = await readFile(this.file, 'utf8').catch(() => '[]');
    return new Map(JSON.parse(text) as [string, Saved][]);
  }

  private async write(): Promise<void> {
    await mkdir(dirname(this.file), { recursive: true });
    await writeFile(`${this.file}.new`, JSON.stringify([...this.saved!]));
    await rename(`${this.file}.new`, this.file);
  }
}

/** The address of an internet-facing load balancer on the host, for a process beside the data plane whose state is in this folder. */
export async function readHostAddress(directory: string, arn: string): Promise<string | undefined> {
  const text = await readFile(hostAddressFile(directory), 'utf8').catch(() => '[]');
  return (JSON.parse(text) as [string, Saved][]).find(([one]) => one === arn)?.[1].host;
}

/** Local addresses of TCP sockets that listen on this host. */
async function listeningAddresses(): Promise<Set<string>> {
  const found = new Set<string>();
  for (const line of (await readFile('/proc/net/tcp', 'utf8')).split('\n').slice(1)) {
    const [, local, , socketState] = line.trim().split(/\s+/);
    if (socketState !== '0A') continue;
    const bytes = local.slice(0, 8).match(/../g)!.reverse();
    found.add(bytes.map((byte) => Number.parseInt(byte, 16)).join('.'));
  }
  return found;
}

/** Addresses that the router of a VPC has to hold. */
export function balancerAddresses(balancers: Balancer[]): BalancerAddress[] {
  return balancers.flatMap((one) => one.addresses.map((address) => ({ vpcId: one.vpcId, address, groups: one.groups })));
}
