import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createAwsClients, type AwsClients } from '../aws/clients.ts';
import { callersHome, writeForCaller } from './calling-user.ts';
import { type ClusterRecord, pathsOf, UserError } from './state.ts';

export interface AwsCredentials {
  accessKeyId: string;
  secretAccessKey: string;
}

/** The embedded AWS's root key, which its first start wrote (mode 0600), or the keys that were given for another AWS. */
export function readRootCredentials(directory: string): AwsCredentials {
  const file = join(directory, 'credentials.json');
  if (!existsSync(file)) throw new UserError(`the AWS keys are missing (${file})`);
  const { accessKeyId, secretAccessKey } = JSON.parse(readFileSync(file, 'utf8'));
  return { accessKeyId, secretAccessKey };
}

export const awsEndpoint = (record: Pick<ClusterRecord, 'awsEndpoint' | 'ports'>): string => record.awsEndpoint ?? registryUrl(record);

/** Where images are pushed to the cluster's ECR, on this host. */
export const registryUrl = (record: Pick<ClusterRecord, 'ports'>): string => `http://127.0.0.1:${record.ports.aws}`;

export function clusterAwsClients(record: ClusterRecord): AwsClients {
  return createAwsClients({ region: record.region, endpoint: awsEndpoint(record), credentials: readRootCredentials(pathsOf(record.name).aws) });
}

/** Name of the AWS profile of a cluster, in $AWS_SHARED_CREDENTIALS_FILE and $AWS_CONFIG_FILE or ~/.aws. */
export const profileName = (cluster: string): string => `kumulus-${cluster}`;

const files = () => {
  const home = join(callersHome(), '.aws');
  return {
    credentials: process.env['AWS_SHARED_CREDENTIALS_FILE'] ?? join(home, 'credentials'),
    config: process.env['AWS_CONFIG_FILE'] ?? join(home, 'config'),
  };
};

/** The file without one [section]. */
function withoutSection(text: string, section: string): string {
  const lines = text.split('\n');
  const start = lines.findIndex((l) => l.trim() === `[${section}]`);
  if (start < 0) return text;
  let end = lines.findIndex((l, i) => i > start && l.trim().startsWith('['));
  if (end < 0) end = lines.length;
  lines.splice(start, end - start);
  return lines
    .join('\n')
    .replace(/\n{3,}/g, '\n\n')
    .replace(/^\n+/, '');
}

function replaceSection(file: string, section: string, body: string | undefined): void {
  const before = existsSync(file) ? readFileSync(file, 'utf8') : '';
  const rest = withoutSection(before, section);
  const text = body === undefined ? rest : `${rest}${rest && !rest.endsWith('\n') ? '\n' : ''}[${section}]\n${body}`;
  if (text === before) return;
  writeForCaller(file, text);
}

/** Writes a profile with an endpoint and keys, so that `aws --profile NAME` works. */
export function writeProfile(name: string, region: string, endpoint: string, keys: AwsCredentials): void {
  const { credentials, config } = files();
  replaceSection(credentials, name, `aws_access_key_id = ${keys.accessKeyId}\naws_secret_access_key = ${keys.secretAccessKey}\n`);
  replaceSection(config, `profile ${name}`, `region = ${region}\nendpoint_url = ${endpoint}\n`);
}

export function removeProfile(name: string): void {
  const { credentials, config } = files();
  replaceSection(credentials, name, undefined);
  replaceSection(config, `profile ${name}`, undefined);
}

/** Writes the profile of a cluster: `aws --profile kumulus-NAME`. */
export const writeAwsProfile = (record: ClusterRecord): void =>
  writeProfile(profileName(record.name), record.region, awsEndpoint(record), readRootCredentials(pathsOf(record.name).aws));

export const removeAwsProfile = (cluster: string): void => removeProfile(profileName(cluster));
