import net from 'node:net';
import type { Container, Probe } from '../../api/generated/types.ts';
import type { Runtime } from '../../runtime/cri.ts';
import { dialMessage, httpGet } from '../hooks.ts';
import { resolvePort } from '../pods.ts';
import { grpcHealth } from './grpc.ts';

export type ProbeKind = 'liveness' | 'readiness' | 'startup';
export interface ProbeOutcome {
  ok: boolean;
  message: string;
  /** Something to warn of although the probe passed, such as a redirect elsewhere. */
  warning?: boolean;
}

export interface ProbeTarget {
  runtime: Runtime;
  container: Container;
  containerId: string;
  podIP: string;
  signal: AbortSignal;
}

/** Runs a probe once. Never throws: what goes wrong is an outcome. Requests leave from the node's network. */
export async function executeProbe(probe: Probe, o: ProbeTarget): Promise<ProbeOutcome> {
  const timeoutSeconds = probe.timeoutSeconds || 1;
  try {
    if (probe.exec) return await execProbe(probe.exec.command ?? [], timeoutSeconds, o);
    if (probe.httpGet) return await httpProbe(probe.httpGet, timeoutSeconds * 1000, o);
    if (probe.tcpSocket)
      return await tcpProbe(probe.tcpSocket.host || o.podIP, resolvePort(probe.tcpSocket.port, o.container), timeoutSeconds * 1000);
    if (probe.grpc) return await grpcHealth(o.podIP, probe.grpc.port, probe.grpc.service ?? '', timeoutSeconds * 1000);
    return { ok: false, message: 'missing probe handler' };
  } catch (error) {
    return { ok: false, message: error instanceof Error ? error.message : String(error) };
  }
}

async function execProbe(command: string[], timeoutSeconds: number, o: ProbeTarget): Promise<ProbeOutcome> {
  const result = await o.runtime.execSync(o.containerId, command, timeoutSeconds);
  const output = Buffer.concat([result.stdout, result.stderr])
    .subarray(0, 10 * 1024)
    .toString('utf8');
  return { ok: result.exitCode === 0, message: output };
}

type HttpGet = NonNullable<Probe['httpGet']>;
async function httpProbe(get: HttpGet, timeoutMs: number, o: ProbeTarget): Promise<ProbeOutcome> {
  const host = get.host || o.podIP;
  const ask = {
    scheme: get.scheme ?? 'HTTP',
    host,
    port: resolvePort(get.port, o.container),
    headers: get.httpHeaders ?? [],
    userAgent: 'kube-probe/1.37',
    timeoutMs,
    signal: o.signal,
  };
  let path = get.path ?? '/';
  // Redirects within the host are followed; one elsewhere passes with a warning.
  for (let hops = 0; hops < 10; hops++) {
    const answer = await httpGet({ ...ask, path });
    if (answer.status >= 300 && answer.status < 400 && answer.location) {
      const scheme = ask.scheme.toLowerCase();
      const target = new URL(
        answer.location,
        `${scheme}://${host.includes(':') ? `[${host}]` : host}:${ask.port}${path.startsWith('/') ? path : `/${path}`}`,
      );
      if (target.hostname.replace(/^\[|\]$/g, '') !== host)
        return { ok: true, warning: true, message: `Probe terminated redirects, Response body: ${answer.body}` };
      ask.port = Number(target.port) || (target.protocol === 'https:' ? 443 : 80);
      ask.scheme = target.protocol.slice(0, -1);
      path = target.pathname + target.search;
      continue;
    }
    const ok = answer.status >= 200 && answer.status < 400;
    return { ok, message: ok ? answer.body : `HTTP probe failed with statuscode: ${answer.status}` };
  }
  return { ok: false, message: 'stopped after 10 redirects' };
}

function tcpProbe(host: string, port: number, timeoutMs: number): Promise<ProbeOutcome> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port });
    const done = (outcome: ProbeOutcome) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(outcome);
    };
    const timer = setTimeout(() => done({ ok: false, message: `dial tcp ${host}:${port}: i/o timeout` }), timeoutMs);
    socket.once('connect', () => done({ ok: true, message: '' }));
    socket.once('error', (error) => done({ ok: false, message: dialMessage(error, host, port) }));
  });
}
