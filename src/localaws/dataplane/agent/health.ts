import { request as httpRequest } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import { connect } from 'node:net';
import type { HealthCheckConfig, TargetConfig } from '../agent-protocol.ts';

export interface CheckResult {
  healthy: boolean;
  /** AWS's reason codes. */
  reason?: string;
  description?: string;
}

/** Whether a status code is in a matcher such as `200-399,404`. */
export function codeMatches(matcher: string, code: number): boolean {
  return matcher.split(',').some((part) => {
    const [from, to] = part.split('-').map(Number);
    return code >= from && code <= (to ?? from);
  });
}

/** Tries a target once. Never rejects. */
export function checkTarget(check: HealthCheckConfig, target: TargetConfig, localAddress: string | undefined): Promise<CheckResult> {
  const port = check.port ?? target.port;
  if (check.protocol === 'TCP') return checkTcp(target.address, port, check.timeout, localAddress);
  return checkHttp(check, target.address, port, localAddress);
}

const TIMED_OUT: CheckResult = { healthy: false, reason: 'Target.Timeout', description: 'Request timed out' };
const FAILED: CheckResult = { healthy: false, reason: 'Target.FailedHealthChecks', description: 'Health checks failed' };

function checkTcp(host: string, port: number, timeout: number, localAddress: string | undefined): Promise<CheckResult> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, localAddress });
    const finish = (result: CheckResult) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => finish(TIMED_OUT), timeout);
    socket.once('connect', () => finish({ healthy: true }));
    socket.once('error', () => finish(FAILED));
  });
}

function checkHttp(check: HealthCheckConfig, host: string, port: number, localAddress: string | undefined): Promise<CheckResult> {
  return new Promise((resolve) => {
    const options: RequestOptions = {
      host,
      port,
      path: check.path,
      localAddress,
      agent: false,
      // AWS does not look at a target's certificate either.
      rejectUnauthorized: false,
      headers: { Host: `${host}:${port}`, 'User-Agent': 'ELB-HealthChecker/2.0', Connection: 'close' },
    };
    const request = check.protocol === 'HTTPS' ? httpsRequest(options) : httpRequest(options);
    const finish = (result: CheckResult) => {
      clearTimeout(timer);
      request.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => finish(TIMED_OUT), check.timeout);
    request.once('error', () => finish(FAILED));
    request.once('response', (response) => {
      response.resume();
      const code = response.statusCode ?? 0;
      if (codeMatches(check.matcher, code)) finish({ healthy: true });
      else finish({ healthy: false, reason: 'Target.ResponseCodeMismatch', description: `Health checks failed with these codes: [${code}]` });
    });
    request.end();
  });
}
