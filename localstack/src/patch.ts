import { getServiceEndpoint } from './config.ts';

/** What the AWS SDK reads when a client is made. Unset: what would count before these. */
const wanted = (): Record<string, string | undefined> => ({
  AWS_ENDPOINT_URL: getServiceEndpoint('edge'),
  AWS_ACCESS_KEY_ID: 'test',
  AWS_SECRET_ACCESS_KEY: 'test',
  AWS_SESSION_TOKEN: undefined,
  AWS_PROFILE: undefined,
  AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: undefined,
  AWS_REGION: process.env['AWS_REGION'] ?? process.env['AWS_DEFAULT_REGION'] ?? 'us-east-1',
});

let before: Record<string, string | undefined> | undefined;

function set(values: Record<string, string | undefined>): void {
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
}

/**
 * Lets every client of the AWS SDK that is made from now on, in this process and its children, speak to LocalStack, unless it is given an
 * endpoint or keys of its own. Twice is once.
 */
export function enableLocalEndpoints(): void {
  if (before) return;
  const values = wanted();
  before = Object.fromEntries(Object.keys(values).map((name) => [name, process.env[name]]));
  set(values);
}

/** Clients that are made from now on speak to AWS again. */
export function disableLocalEndpoints(): void {
  if (!before) return;
  set(before);
  before = undefined;
}
