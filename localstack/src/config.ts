import { services } from './services.ts';

/** The port of LocalStack's gateway, which all services share. */
export const defaultPort = 4566;

/** `host[:port]`, where either part may be left out. Throws for a port that is no number. */
export function parseLocalstackHost(given: string): { hostname: string; port: number } {
  const colon = given.indexOf(':');
  const hostname = (colon < 0 ? given : given.slice(0, colon)).trim() || 'localhost';
  if (colon < 0) return { hostname, port: defaultPort };
  const text = given.slice(colon + 1).trim();
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new Error(`could not parse ${given} into <hostname>:<port>`);
  return { hostname, port };
}

/** Where every service is: AWS_ENDPOINT_URL, else the host given, else LOCALSTACK_HOST, else localhost:4566; https with USE_SSL=1 or true. */
function endpoint(localstackHost: string | undefined): string {
  const whole = process.env['AWS_ENDPOINT_URL']?.trim();
  if (whole) return whole;
  const { hostname, port } = parseLocalstackHost(localstackHost ?? process.env['LOCALSTACK_HOST'] ?? `localhost:${defaultPort}`);
  const protocol = ['1', 'true'].includes(process.env['USE_SSL'] ?? '') ? 'https' : 'http';
  return `${protocol}://${hostname}:${port}`;
}

/** The endpoint of every service, by its name. */
export function getServiceEndpoints(localstackHost?: string): Record<string, string> {
  const url = endpoint(localstackHost);
  return Object.fromEntries(Object.keys(services).map((name) => [name, url]));
}

/** The endpoint of a service; undefined for one that is not known. */
export function getServiceEndpoint(service: string, localstackHost?: string): string | undefined {
  return Object.hasOwn(services, service) ? endpoint(localstackHost) : undefined;
}

/** The port of every service, by its name. */
export function getServicePorts(): Record<string, number> {
  const url = new URL(endpoint(undefined));
  const port = Number(url.port || (url.protocol === 'https:' ? 443 : 80));
  return Object.fromEntries(Object.keys(services).map((name) => [name, port]));
}

export function getServicePort(service: string): number | undefined {
  return Object.hasOwn(services, service) ? getServicePorts()[service] : undefined;
}
