import { DescribeInstanceAttributeCommand, type EC2Client, StopInstancesCommand, TerminateInstancesCommand, type Volume } from '@aws-sdk/client-ec2';
import { AddTagsCommand, type ElasticLoadBalancingV2Client } from '@aws-sdk/client-elastic-load-balancing-v2';
import { GetInstanceProfileCommand, type IAMClient } from '@aws-sdk/client-iam';
import { AssumeRoleCommand, type STSClient } from '@aws-sdk/client-sts';
import type { Logger } from 'pino';
import type { CloudReports, CloudSource, CloudState, RoleCredentials } from '../../contract.ts';
import { readEndpoint } from './read.ts';

export interface PolledSourceOptions {
  region: string;
  accountId: string;
  clients: { ec2: EC2Client; elbv2: ElasticLoadBalancingV2Client; iam: IAMClient; sts: STSClient };
  /** Volumes that an earlier data plane has files of: those that the endpoint no longer has are gone for good. */
  knownVolumes: string[];
  /** Milliseconds between two looks after a change, and the most that they grow to while nothing changes. */
  pauses?: { shortest: number; longest: number };
  log: Logger;
}

const longestFailurePause = 30_000;

/**
 * An endpoint that tells nobody what changes, such as LocalStack or moto, as the source of a data plane: it is described again and
 * again, soon after a change and less and less often while there is none. States move there by themselves, so nearly all that a data
 * plane reports is known already: only an instance that shut itself down is passed on.
 *
 * What such an endpoint does not show and so is not made real: RebootInstances; health of targets is used by the load balancers here but not shown by DescribeTargetHealth.
 */
export class PolledSource implements CloudSource {
  readonly region: string;
  readonly accountId: string;
  readonly autonomous = true;
  readonly reports: CloudReports;
  private readonly o: PolledSourceOptions;
  private readonly callbacks = new Set<() => void>();
  private readonly gone = new Map<string, Volume>();
  private readonly volumes = new Set<string>();
  private state!: CloudState;
  private text = '';
  private pause: number;
  private failures = 0;
  private timer: NodeJS.Timeout | undefined;
  private ended = false;

  private constructor(o: PolledSourceOptions) {
    this.o = o;
    this.region = o.region;
    this.accountId = o.accountId;
    this.pause = this.pauses.shortest;
    for (const id of o.knownVolumes) this.volumes.add(id);
    this.reports = {
      instanceState: (id, state, reason) => void this.passOn(id, state, reason),
      consoleOutput: () => {},
      volumeAttachment: () => {},
      volumeState: (id, state) => {
        if (state === 'deleted' && this.gone.delete(id)) this.volumes.delete(id);
      },
      loadBalancerState: () => {},
      loadBalancerHostAddress: (arn, address) => void this.tagAddress(arn, address),
      targetHealth: () => {},
    };
  }

  private async tagAddress(arn: string, address: string): Promise<void> {
    await this.o.clients.elbv2
      .send(new AddTagsCommand({ ResourceArns: [arn], Tags: [{ Key: 'kumulus:host-address', Value: address }] }))
      .catch((error) => this.o.log.warn({ err: error, loadBalancer: arn }, 'its address on the host could not be told'));
  }

  /** Resolves when the endpoint was read once; throws when it cannot be. */
  static async start(o: PolledSourceOptions): Promise<PolledSource> {
    const source = new PolledSource(o);
    await source.look();
    source.arm(source.pause);
    return source;
  }

  private get pauses() {
    return this.o.pauses ?? { shortest: 500, longest: 4000 };
  }

  private arm(ms: number): void {
    if (this.ended) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.tick(), ms);
  }

  private async tick(): Promise<void> {
    try {
      const changed = await this.look();
      this.failures = 0;
      this.pause = changed ? this.pauses.shortest : Math.min(this.pause * 1.5, this.pauses.longest);
      this.arm(this.pause);
    } catch (error) {
      if (this.ended) return;
      // The last state read stays: an endpoint that is away ends no instance.
      const pause = Math.min(this.pauses.shortest * 2 ** ++this.failures, longestFailurePause);
      this.o.log[this.failures === 1 ? 'warn' : 'debug']({ err: (error as Error).message, retryInMs: pause }, 'the endpoint cannot be read');
      this.arm(pause);
    }
  }

  /** Reads the endpoint; whether anything is not as it was. */
  private async look(): Promise<boolean> {
    const state = await readEndpoint(this.o.clients);
    if (this.ended) return false;
    this.noteGone(state);
    const text = JSON.stringify(state);
    if (text === this.text) return false;
    this.text = text;
    this.state = state;
    for (const callback of this.callbacks) callback();
    return true;
  }

  /** A volume that is described no more was deleted: the data plane is to hear of it once. */
  private noteGone(state: CloudState): void {
    const there = new Set(state.volumes.map((one) => one.VolumeId!));
    for (const id of this.volumes) if (!there.has(id)) this.gone.set(id, { VolumeId: id, State: 'deleted' as never, Size: 0 });
    for (const id of there) this.volumes.add(id);
    state.volumes.push(...this.gone.values());
  }

  private async passOn(id: string, state: string, reason: string | undefined): Promise<void> {
    if (state !== 'stopped' || !reason) return;
    const { ec2 } = this.o.clients;
    try {
      const asked = await ec2.send(new DescribeInstanceAttributeCommand({ InstanceId: id, Attribute: 'instanceInitiatedShutdownBehavior' }));
      const ends = asked.InstanceInitiatedShutdownBehavior?.Value === 'terminate';
      if (ends) await ec2.send(new TerminateInstancesCommand({ InstanceIds: [id] }));
      else await ec2.send(new StopInstancesCommand({ InstanceIds: [id] }));
    } catch (error) {
      this.o.log.warn({ instance: id, err: (error as Error).message }, 'an instance shut itself down, and the endpoint cannot be told');
    }
    this.arm(0);
  }

  async read(): Promise<CloudState> {
    return this.state;
  }

  onChange(callback: () => void): () => void {
    this.callbacks.add(callback);
    return () => this.callbacks.delete(callback);
  }

  async userData(instanceId: string): Promise<string | undefined> {
    const answer = await this.o.clients.ec2.send(new DescribeInstanceAttributeCommand({ InstanceId: instanceId, Attribute: 'userData' }));
    const text = answer.UserData?.Value;
    return text ? Buffer.from(text, 'base64').toString('utf8') : undefined;
  }

  /** The instance profile's role, assumed. An endpoint that does not let it be has instances without credentials. */
  async roleCredentials(instanceId: string): Promise<{ roleName: string; credentials: RoleCredentials } | undefined> {
    const arn = this.state.instances.find((one) => one.InstanceId === instanceId)?.IamInstanceProfile?.Arn;
    if (!arn) return undefined;
    const { iam, sts } = this.o.clients;
    const profile = await iam.send(new GetInstanceProfileCommand({ InstanceProfileName: arn.slice(arn.lastIndexOf('/') + 1) }));
    const role = profile.InstanceProfile?.Roles?.[0];
    if (!role?.Arn || !role.RoleName) return undefined;
    const { Credentials: given } = await sts.send(new AssumeRoleCommand({ RoleArn: role.Arn, RoleSessionName: instanceId }));
    if (!given?.AccessKeyId || !given.SecretAccessKey || !given.SessionToken) return undefined;
    return {
      roleName: role.RoleName,
      credentials: {
        accessKeyId: given.AccessKeyId,
        secretAccessKey: given.SecretAccessKey,
        sessionToken: given.SessionToken,
        expiration: given.Expiration ?? new Date(Date.now() + 3600_000),
      },
    };
  }

  /** Looks no more. */
  end(): void {
    this.ended = true;
    clearTimeout(this.timer);
    this.callbacks.clear();
  }
}
