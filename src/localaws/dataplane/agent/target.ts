import type { Socket } from 'node:net';
import { type TargetConfig, type TargetGroupConfig, targetKey } from '../agent-protocol.ts';
import { checkTarget } from './health.ts';

/** While a new target is not known to be well, it is tried this often, in milliseconds, or at its interval if that is shorter. */
const INITIAL_INTERVAL = 1000;

export type TargetState = 'initial' | 'healthy' | 'unhealthy' | 'unused' | 'draining';
export type HealthReport = (target: TargetConfig, state: TargetState, reason?: string, description?: string) => void;

/**
 * One target of a group: its health, and the connections to it. One good check makes a new target healthy (as AWS documents);
 * later on the thresholds count. Connections to a target that turns unhealthy are cut, as a Network Load Balancer does.
 */
export class Target {
  config: TargetConfig;
  state: TargetState = 'initial';
  readonly connections = new Set<{ client: Socket; upstream: Socket }>();
  private group: TargetGroupConfig;
  private readonly source: () => string | undefined;
  private readonly report: HealthReport;
  private readonly onGone: () => void;
  private successes = 0;
  private failures = 0;
  private since = Date.now();
  private timer: NodeJS.Timeout | undefined;
  /** Checks of an earlier life of this target count no more. */
  private round = 0;

  constructor(config: TargetConfig, group: TargetGroupConfig, source: () => string | undefined, report: HealthReport, onGone: () => void) {
    this.config = config;
    this.group = group;
    this.source = source;
    this.report = report;
    this.onGone = onGone;
    const known = group.known[targetKey(config)];
    if (known === 'healthy' || known === 'unhealthy') this.state = known;
    this.begin(this.state === 'initial');
  }

  update(config: TargetConfig, group: TargetGroupConfig): void {
    const moved = config.address !== this.config.address;
    const changed = JSON.stringify(this.group.check) !== JSON.stringify(group.check);
    this.config = config;
    this.group = group;
    if (this.state === 'draining' || moved) {
      if (moved) this.cut();
      this.state = 'initial';
      this.begin(true);
    } else if (changed) this.begin(false);
  }

  /** Deregistered: gets no new connection; those it has may go on for the group's delay. */
  drain(): void {
    if (this.state === 'draining') return;
    this.halt();
    this.state = 'draining';
    this.report(this.config, 'draining', 'Target.DeregistrationInProgress', 'Target deregistration is in progress');
    if (this.connections.size === 0 || !this.config.address) this.gone();
    else this.timer = setTimeout(() => this.gone(), this.group.deregistrationDelay);
  }

  add(client: Socket, upstream: Socket): void {
    const connection = { client, upstream };
    this.connections.add(connection);
    upstream.once('close', () => {
      this.connections.delete(connection);
      if (this.state === 'draining' && this.connections.size === 0) this.gone();
    });
  }

  /** Ends it without a word: its group is gone. */
  remove(): void {
    this.halt();
    this.state = 'unused';
    this.cut();
  }

  private gone(): void {
    if (this.state !== 'draining') return;
    this.halt();
    this.state = 'unused';
    this.cut();
    this.report(this.config, 'unused', 'Target.NotRegistered', 'Target is not registered to the target group');
    this.onGone();
  }

  private cut(): void {
    for (const { client, upstream } of this.connections) {
      upstream.destroy();
      client.resetAndDestroy();
    }
    this.connections.clear();
  }

  private halt(): void {
    clearTimeout(this.timer);
    this.round++;
  }

  private begin(anew: boolean): void {
    this.halt();
    this.successes = 0;
    this.failures = 0;
    this.since = Date.now();
    if (!this.config.address) {
      this.state = 'unused';
      this.cut();
      this.report(this.config, 'unused', 'Target.InvalidState', 'Target is not in the running state');
      return;
    }
    if (this.state === 'unused') this.state = 'initial';
    if (anew) this.report(this.config, 'initial', 'Elb.InitialHealthChecking', 'Initial health checks in progress');
    void this.check(this.round);
  }

  private async check(round: number): Promise<void> {
    const { check } = this.group;
    const result = await checkTarget(check, this.config, this.source());
    if (round !== this.round) return;
    if (result.healthy) {
      this.failures = 0;
      this.successes++;
      if (this.state === 'initial' || (this.state === 'unhealthy' && this.successes >= check.healthyThreshold)) {
        this.state = 'healthy';
        this.report(this.config, 'healthy');
      }
    } else {
      this.successes = 0;
      this.failures++;
      const overdue = Date.now() - this.since >= check.interval * check.unhealthyThreshold;
      if (this.state === 'initial' ? overdue : this.state === 'healthy' && this.failures >= check.unhealthyThreshold) {
        this.state = 'unhealthy';
        this.report(this.config, 'unhealthy', result.reason, result.description);
        this.cut();
      }
    }
    const pause = this.state === 'initial' ? Math.min(INITIAL_INTERVAL, check.interval) : check.interval;
    this.timer = setTimeout(() => void this.check(round), pause);
  }
}
