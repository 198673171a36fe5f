import { parse } from 'yaml';

/** Where spans go, and how many requests without a sampled parent have any. */
export interface TracingConfiguration {
  /** HOST:PORT of an OTLP collector that takes gRPC without TLS, or unix:PATH. */
  endpoint: string;
  samplingRatePerMillion: number;
}

const apiVersions = ['apiserver.config.k8s.io/v1', 'apiserver.config.k8s.io/v1beta1', 'apiserver.config.k8s.io/v1alpha1'];

/** Reads a TracingConfiguration of apiserver.config.k8s.io, YAML or JSON. Throws with all that is wrong. */
export function parseTracingConfiguration(text: string): TracingConfiguration {
  const config = parse(text);
  if (config?.kind !== 'TracingConfiguration' || !apiVersions.includes(config.apiVersion)) throw new Error('not a TracingConfiguration of apiserver.config.k8s.io/v1');
  const problems: string[] = [];
  const { endpoint = 'localhost:4317', samplingRatePerMillion: rate = 0 } = config;
  if (!Number.isInteger(rate) || rate < 0) problems.push(`samplingRatePerMillion: Invalid value: ${JSON.stringify(rate)}: sampling rate must be positive`);
  else if (rate > 1_000_000) problems.push(`samplingRatePerMillion: Invalid value: ${rate}: sampling rate per million must be less than or equal to one million`);
  const plain = typeof endpoint === 'string' ? endpoint.replace(/^dns:\/\/(?:[^/]*\/)?/, '') : '';
  const unix = /^unix:(?:\/\/)?(\/.+)$/.exec(plain)?.[1];
  if (!unix && plain.includes('//'))
    problems.push(`endpoint: Invalid value: ${JSON.stringify(endpoint)}: unsupported scheme: ${plain.split(':')[0]}.  Options are none, dns or unix.`);
  else if (!unix && !/^(\[[\da-fA-F:]+\]|[^:/]+):\d+$/.test(plain)) problems.push(`endpoint: Invalid value: ${JSON.stringify(endpoint)}: write it as HOST:PORT`);
  if (problems.length) throw new Error(problems.join('; '));
  return { endpoint: unix ? `unix:${unix}` : plain, samplingRatePerMillion: rate };
}
