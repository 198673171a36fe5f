import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import { invalidConfiguration, validationError } from './names.ts';

export type HealthCheck = Pick<
  elb.TargetGroup,
  | 'HealthCheckProtocol'
  | 'HealthCheckPort'
  | 'HealthCheckEnabled'
  | 'HealthCheckPath'
  | 'HealthCheckIntervalSeconds'
  | 'HealthCheckTimeoutSeconds'
  | 'HealthyThresholdCount'
  | 'UnhealthyThresholdCount'
  | 'Matcher'
>;

const fields = [
  'HealthCheckProtocol',
  'HealthCheckPort',
  'HealthCheckEnabled',
  'HealthCheckPath',
  'HealthCheckIntervalSeconds',
  'HealthCheckTimeoutSeconds',
  'HealthyThresholdCount',
  'UnhealthyThresholdCount',
  'Matcher',
] as const;

function within(value: number | undefined, least: number, most: number, noun: string): void {
  if (value === undefined) return;
  if (!Number.isInteger(value) || value < least || value > most)
    throw validationError(`${noun} '${value}' must be between ${least} and ${most} inclusive`);
}

function checkMatcher(matcher: elb.Matcher): void {
  const codes = matcher.HttpCode ?? '';
  if (matcher.GrpcCode !== undefined) throw invalidConfiguration('gRPC codes can be matched in target groups of protocol version GRPC only');
  const good = codes.split(',').every((part) => {
    const [, from, to] = /^(\d{3})(?:-(\d{3}))?$/.exec(part) ?? [];
    return from !== undefined && Number(from) >= 200 && Number(to ?? from) <= 599 && Number(to ?? from) >= Number(from);
  });
  if (!good) throw validationError(`Health check matcher HTTP code '${codes}' must be within '200-599' inclusive`);
}

/**
 * The health check of a target group with what is asked for. What is left out keeps its value, and without one gets AWS's default
 * (Network Load Balancers: TCP every 30 s, given up after 10 s, or 6 s of HTTP). Throws ValidationError and InvalidConfigurationRequest.
 */
export function checkedHealth(network: boolean, groupProtocol: string, old: HealthCheck | undefined, input: HealthCheck): HealthCheck {
  const allowed = network ? ['HTTP', 'HTTPS', 'TCP'] : ['HTTP', 'HTTPS'];
  const protocol = input.HealthCheckProtocol ?? old?.HealthCheckProtocol ?? (network ? 'TCP' : 'HTTP');
  if (!allowed.includes(protocol)) throw validationError(`Health check protocol '${protocol}' must be one of '${allowed.join(', ')}'`);
  if (input.HealthCheckEnabled === false) throw validationError('Health checks can be disabled for target groups with target type lambda only');
  const port = input.HealthCheckPort;
  if (port !== undefined && port !== 'traffic-port' && !(/^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65_535)) {
    throw validationError(`Health check port '${port}' must be 'traffic-port' or in the range [1, 65535]`);
  }
  within(input.HealthCheckIntervalSeconds, 5, 300, 'Health check interval');
  within(input.HealthCheckTimeoutSeconds, 2, 120, 'Health check timeout');
  within(input.HealthyThresholdCount, 2, 10, 'Health check healthy threshold count');
  within(input.UnhealthyThresholdCount, 2, 10, 'Health check unhealthy threshold count');

  const http = protocol === 'HTTP' || protocol === 'HTTPS';
  if (!http && input.HealthCheckPath) {
    throw invalidConfiguration(`Health check paths are not supported for health checks for target groups with the ${groupProtocol} protocol`);
  }
  if (!http && input.Matcher) {
    throw invalidConfiguration(`Health check matchers are not supported for health checks for target groups with the ${groupProtocol} protocol`);
  }
  if (input.HealthCheckPath && (!input.HealthCheckPath.startsWith('/') || input.HealthCheckPath.length > 1024)) {
    throw validationError(`Health check path '${input.HealthCheckPath.slice(0, 100)}' must begin with a '/' and be between 1 and 1024 characters`);
  }
  if (input.Matcher) checkMatcher(input.Matcher);

  const interval = input.HealthCheckIntervalSeconds ?? old?.HealthCheckIntervalSeconds ?? 30;
  const usual = network ? (protocol === 'HTTP' ? 6 : 10) : 5;
  const timeout = input.HealthCheckTimeoutSeconds ?? Math.min(old?.HealthCheckTimeoutSeconds ?? usual, network ? interval : interval - 1);
  if (network ? timeout > interval : timeout >= interval) {
    throw validationError(`Health check timeout '${timeout}' must be smaller than ${network ? 'or equal to ' : ''}the interval '${interval}'`);
  }
  const kept: HealthCheck = {
    HealthCheckProtocol: protocol,
    HealthCheckPort: port ?? old?.HealthCheckPort ?? 'traffic-port',
    HealthCheckEnabled: true,
    HealthCheckIntervalSeconds: interval,
    HealthCheckTimeoutSeconds: timeout,
    HealthyThresholdCount: input.HealthyThresholdCount ?? old?.HealthyThresholdCount ?? 5,
    UnhealthyThresholdCount: input.UnhealthyThresholdCount ?? old?.UnhealthyThresholdCount ?? 2,
  };
  if (!http) return kept;
  return {
    ...kept,
    HealthCheckPath: input.HealthCheckPath ?? old?.HealthCheckPath ?? '/',
    Matcher: input.Matcher ?? old?.Matcher ?? { HttpCode: network ? '200-399' : '200' },
  };
}

/** A target group without its health check: what a new health check is put on. */
export function withoutHealth<T extends HealthCheck>(group: T): Omit<T, keyof HealthCheck> {
  const rest = { ...group };
  for (const field of fields) delete rest[field];
  return rest;
}
