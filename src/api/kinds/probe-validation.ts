import { type Findings, validatePortReference } from './findings.ts';

const headerName = /^[-A-Za-z0-9]+$/;
const timings = ['initialDelaySeconds', 'timeoutSeconds', 'periodSeconds', 'successThreshold', 'failureThreshold'];
const hookHandlers = ['exec', 'httpGet', 'tcpSocket', 'sleep'];
const probeHandlers = ['exec', 'httpGet', 'tcpSocket', 'grpc'];

const numbered = (from: number, to: number, name: (n: number) => string) => Array.from({ length: to - from + 1 }, (_, i) => name(from + i));
/** In the order of their texts, as messages list them. */
const linuxSignals = [
  ...['SIGABRT', 'SIGALRM', 'SIGBUS', 'SIGCHLD', 'SIGCLD', 'SIGCONT', 'SIGFPE', 'SIGHUP', 'SIGILL', 'SIGINT', 'SIGIO', 'SIGIOT', 'SIGKILL', 'SIGPIPE', 'SIGPOLL'],
  ...['SIGPROF', 'SIGPWR', 'SIGQUIT', 'SIGSEGV', 'SIGSTKFLT', 'SIGSTOP', 'SIGSYS', 'SIGTERM', 'SIGTRAP', 'SIGTSTP', 'SIGTTIN', 'SIGTTOU', 'SIGURG', 'SIGUSR1'],
  ...['SIGUSR2', 'SIGVTALRM', 'SIGWINCH', 'SIGXCPU', 'SIGXFSZ', 'SIGRTMIN', 'SIGRTMAX'],
  ...numbered(1, 15, (n) => `SIGRTMIN+${n}`),
  ...numbered(1, 14, (n) => `SIGRTMAX-${n}`),
].sort();

/** Lifecycle hooks and probes, of containers that go on running. */
export function validateHooksAndProbes(found: Findings, c: any, at: string, spec: any): void {
  for (const hook of ['postStart', 'preStop'])
    if (c.lifecycle?.[hook]) validateHandler(found, c.lifecycle[hook], `${at}.lifecycle.${hook}`, hookHandlers, spec.terminationGracePeriodSeconds);
  if (c.lifecycle?.stopSignal !== undefined) {
    const field = `${at}.lifecycle.stopSignal`;
    if (!spec.os) found.forbidden(field, 'may not be set for containers with empty `spec.os.name`');
    else if (spec.os.name === 'windows') found.oneOf(field, c.lifecycle.stopSignal, ['SIGKILL', 'SIGTERM']);
    else if (spec.os.name === 'linux') found.oneOf(field, c.lifecycle.stopSignal, linuxSignals);
  }
  for (const kind of ['livenessProbe', 'readinessProbe', 'startupProbe']) {
    const probe = c[kind];
    if (!probe) continue;
    const path = `${at}.${kind}`;
    validateHandler(found, probe, path, probeHandlers, undefined);
    for (const field of timings) found.nonNegative(`${path}.${field}`, probe[field]);
    const grace = probe.terminationGracePeriodSeconds;
    if (grace !== undefined && grace <= 0) found.invalid(`${path}.terminationGracePeriodSeconds`, grace, 'must be greater than 0');
    if (kind !== 'readinessProbe') {
      if (probe.successThreshold !== 1) found.invalid(`${path}.successThreshold`, probe.successThreshold, 'must be 1');
    } else if (grace !== undefined) found.invalid(`${path}.terminationGracePeriodSeconds`, grace, 'must not be set for readinessProbes');
  }
}

function validateHandler(found: Findings, handler: any, at: string, kinds: string[], gracePeriod: number | undefined): void {
  let count = 0;
  for (const kind of kinds) {
    const one = handler[kind];
    if (!one) continue;
    if (++count > 1) {
      found.forbidden(`${at}.${kind}`, 'may not specify more than 1 handler type');
      continue;
    }
    const path = `${at}.${kind}`;
    if (kind === 'exec' && !one.command?.length) found.required(`${path}.command`);
    if (kind === 'httpGet') validateHttpGet(found, one, path);
    if (kind === 'tcpSocket') validatePortReference(found, `${path}.port`, one.port);
    if (kind === 'grpc') {
      found.port(`${path}.port`, one.port);
      if (one.mode !== undefined) found.oneOf(`${path}.mode`, one.mode, ['Plaintext', 'TLS']);
    }
    if (kind === 'sleep' && gracePeriod !== undefined && ((one.seconds ?? 0) < 0 || (one.seconds ?? 0) > gracePeriod))
      found.invalid(path, one.seconds ?? 0, `must be non-negative and less than terminationGracePeriodSeconds (${gracePeriod})`);
  }
  if (!count) found.required(at, 'must specify a handler type');
}

function validateHttpGet(found: Findings, action: any, path: string): void {
  if (!action.path) found.required(`${path}.path`);
  validatePortReference(found, `${path}.port`, action.port);
  found.oneOf(`${path}.scheme`, action.scheme, ['HTTP', 'HTTPS']);
  for (const header of action.httpHeaders ?? []) {
    if (headerName.test(header.name ?? '')) continue;
    const detail =
      "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
    found.invalid(`${path}.httpHeaders`, header.name ?? '', detail);
  }
  const { protocol } = action;
  if (protocol === undefined) return;
  if (protocol !== 'HTTP1' && protocol !== 'HTTP2') found.oneOf(`${path}.protocol`, protocol, ['HTTP1', 'HTTP2']);
  else if (protocol === 'HTTP2' && action.scheme !== 'HTTP') found.invalid(`${path}.protocol`, protocol, 'is only supported with HTTP (H2C)');
  else if (protocol === 'HTTP2' && action.host) found.invalid(`${path}.host`, action.host, 'must be empty when `protocol` is "HTTP2"');
}
