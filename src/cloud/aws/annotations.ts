import type { Service } from '../../api/generated/types.ts';

/** The annotations that cloud-provider-aws and aws-load-balancer-controller read, as far as network load balancers have use for them. */
const prefix = 'service.beta.kubernetes.io/aws-load-balancer-';

export interface BalancerWishes {
  scheme: 'internet-facing' | 'internal';
  /** Ids or names; where left out they are found by their tags. */
  subnets: string[] | undefined;
  tags: Record<string, string>;
  attributes: Record<string, string>;
  targetGroupAttributes: Record<string, string>;
  health: {
    protocol: 'TCP' | 'HTTP' | 'HTTPS';
    port: string;
    path: string | undefined;
    interval: number;
    timeout: number;
    healthy: number;
    unhealthy: number;
  };
}

/** `a=b,c=d`. Throws for what is of another form. */
function pairs(service: Service, name: string): Record<string, string> {
  const text = service.metadata.annotations?.[prefix + name];
  if (!text) return {};
  return Object.fromEntries(
    text.split(',').map((part) => {
      const at = part.indexOf('=');
      if (at < 1) throw new Error(`annotation ${prefix}${name}: '${part}' is not of the form key=value`);
      return [part.slice(0, at).trim(), part.slice(at + 1).trim()];
    }),
  );
}

function count(service: Service, name: string, otherwise: number): number {
  const text = service.metadata.annotations?.[prefix + name];
  if (text === undefined) return otherwise;
  if (!/^\d+$/.test(text)) throw new Error(`annotation ${prefix}${name}: '${text}' is not a number`);
  return Number(text);
}

/** Annotations whose wish would be lost in silence, with the values that ask for nothing else than what there is. */
const unsupported: Record<string, RegExp> = {
  'alpn-policy': /^None$/,
  'backend-protocol': /^tcp$/i,
  'eip-allocations': /^$/,
  'ip-address-type': /^ipv4$/,
  'ipv6-addresses': /^$/,
  'nlb-target-type': /^instance$/,
  'private-ipv4-addresses': /^$/,
  'proxy-protocol': /^$/,
  'security-groups': /^$/,
  'ssl-cert': /^$/,
};

/** What a Service asks of its load balancer. Throws with the annotation's name where one cannot be understood. */
export function wishesOf(service: Service): BalancerWishes {
  const of = (name: string) => service.metadata.annotations?.[prefix + name];
  for (const [name, harmless] of Object.entries(unsupported)) {
    const value = of(name);
    if (value !== undefined && !harmless.test(value)) throw new Error(`annotation ${prefix}${name}: '${value}' is not supported`);
  }
  const scheme = of('scheme') ?? (of('internal') !== undefined && of('internal') !== 'false' ? 'internal' : 'internet-facing');
  if (scheme !== 'internal' && scheme !== 'internet-facing')
    throw new Error(`annotation ${prefix}scheme: '${scheme}' is neither internal nor internet-facing`);
  const local = service.spec.externalTrafficPolicy === 'Local' && service.spec.healthCheckNodePort;
  const protocol = (of('healthcheck-protocol') ?? (local ? 'HTTP' : 'TCP')).toUpperCase();
  if (protocol !== 'TCP' && protocol !== 'HTTP' && protocol !== 'HTTPS')
    throw new Error(`annotation ${prefix}healthcheck-protocol: '${protocol}' is none of TCP, HTTP, HTTPS`);
  return {
    scheme,
    subnets: of('subnets')
      ?.split(',')
      .map((one) => one.trim()),
    tags: pairs(service, 'additional-resource-tags'),
    attributes: pairs(service, 'attributes'),
    targetGroupAttributes: pairs(service, 'target-group-attributes'),
    health: {
      protocol,
      port: of('healthcheck-port') ?? (local ? String(service.spec.healthCheckNodePort) : 'traffic-port'),
      path: protocol === 'TCP' ? undefined : (of('healthcheck-path') ?? (local ? '/healthz' : '/')),
      interval: count(service, 'healthcheck-interval', 10),
      timeout: count(service, 'healthcheck-timeout', local ? 6 : 5),
      healthy: count(service, 'healthcheck-healthy-threshold', 2),
      unhealthy: count(service, 'healthcheck-unhealthy-threshold', 2),
    },
  };
}
