import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { contains } from '../addresses.ts';
import type { AgentConfig, MetadataSubject } from '../agent-protocol.ts';

/** What instance metadata asks the data plane for, since it is not in its configuration. */
export interface MetadataSource {
  config: () => AgentConfig;
  credentials(instanceId: string): Promise<{ roleName: string; credentials: Record<string, unknown> } | undefined>;
  userData(instanceId: string): Promise<string | undefined>;
}

interface Folder {
  [name: string]: string | Folder;
}

const key = randomBytes(32);

/** A token says until when and for whom it holds, signed with a key that lives as long as this process. */
function makeToken(instanceId: string, seconds: number): string {
  const body = `${instanceId}.${Date.now() + seconds * 1000}`;
  return Buffer.from(`${body}.${createHmac('sha256', key).update(body).digest('hex')}`).toString('base64url');
}

function tokenHolds(token: string, instanceId: string): boolean {
  const [subject, expiry, signature] = Buffer.from(token, 'base64url').toString('latin1').split('.');
  if (!signature || subject !== instanceId || !(Number(expiry) > Date.now())) return false;
  const expected = createHmac('sha256', key).update(`${subject}.${expiry}`).digest();
  const given = Buffer.from(signature, 'hex');
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** Whose request it is: the instance with that address, or the one that a route leads to for it (a pod's address). */
function subjectOf(config: AgentConfig, address: string): MetadataSubject | undefined {
  const own = config.subjects[address];
  if (own) return own;
  const behind = config.networks.find((one) => contains(one.cidr, address));
  return behind && Object.values(config.subjects).find((one) => one.instanceId === behind.instanceId);
}

/** The EC2 instance metadata service, versions 2 and (where the instance allows it) 1. */
export function metadataServer(source: MetadataSource): Server {
  return createServer((request, response) => {
    request.resume();
    answer(source, request, response).catch((error) => {
      // The data plane is starting again: a client tries later.
      if (!response.headersSent) send(response, 503, (error as Error).message);
    });
  });
}

async function answer(source: MetadataSource, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const subject = subjectOf(source.config(), request.socket.remoteAddress ?? '');
  if (!subject) return send(response, 404, 'Not Found');
  if (!subject.enabled) return send(response, 403, 'Forbidden');
  const path = new URL(request.url ?? '/', 'http://169.254.169.254').pathname.replace(/\/{2,}/g, '/');
  if (request.method === 'PUT') {
    if (path !== '/latest/api/token') return send(response, 405, 'Method Not Allowed');
    // A request that came through a proxy was perhaps not meant to reach this.
    if (request.headers['x-forwarded-for'] !== undefined) return send(response, 403, 'Forbidden');
    const text = request.headers['x-aws-ec2-metadata-token-ttl-seconds'];
    const seconds = Number(text);
    if (typeof text !== 'string' || !Number.isInteger(seconds) || seconds < 1 || seconds > 21_600) return send(response, 400, 'Bad Request');
    response.setHeader('X-Aws-Ec2-Metadata-Token-Ttl-Seconds', String(seconds));
    return send(response, 200, makeToken(subject.instanceId, seconds));
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') return send(response, 405, 'Method Not Allowed');
  const token = request.headers['x-aws-ec2-metadata-token'];
  if (typeof token === 'string' ? !tokenHolds(token, subject.instanceId) : subject.tokensRequired) return send(response, 401, 'Unauthorized');
  const value = await lookUp(source, subject, path.split('/').filter(Boolean));
  if (value === undefined) return send(response, 404, 'Not Found');
  return send(response, 200, typeof value === 'string' ? value : listing(value));
}

function send(response: ServerResponse, status: number, text: string): void {
  const body = Buffer.from(text);
  response.writeHead(status, { 'Content-Type': 'text/plain', 'Content-Length': body.length, Server: 'EC2ws' });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}

function listing(folder: Folder): string {
  return Object.entries(folder)
    .map(([name, value]) => (typeof value === 'string' ? name : `${name}/`))
    .join('\n');
}

async function lookUp(source: MetadataSource, subject: MetadataSubject, path: string[]): Promise<string | Folder | undefined> {
  const [version, category, ...rest] = path;
  if (version === undefined) return { latest: '' };
  if (version !== 'latest' && !/^\d{4}-\d{2}-\d{2}$/.test(version)) return undefined;
  if (category === undefined) return { dynamic: {}, 'meta-data': {}, 'user-data': '' };
  if (category === 'user-data') return rest.length ? undefined : source.userData(subject.instanceId);
  if (category === 'dynamic') return descend(dynamicData(subject), rest);
  if (category !== 'meta-data') return undefined;
  const folder = metaData(subject);
  if (rest.length === 0 || rest[0] === 'iam') {
    const role = await source.credentials(subject.instanceId);
    if (role) folder['iam'] = iamData(subject, role);
  }
  return descend(folder, rest);
}

function descend(folder: Folder, path: string[]): string | Folder | undefined {
  let value: string | Folder | undefined = folder;
  for (const name of path) {
    if (typeof value !== 'object' || !Object.hasOwn(value, name)) return undefined;
    value = value[name];
  }
  return value;
}

function dynamicData(subject: MetadataSubject): Folder {
  const document = {
    accountId: subject.accountId,
    architecture: subject.architecture,
    availabilityZone: subject.availabilityZone,
    billingProducts: null,
    imageId: subject.imageId,
    instanceId: subject.instanceId,
    instanceType: subject.instanceType,
    kernelId: null,
    pendingTime: subject.launchTime,
    privateIp: subject.localIpv4,
    ramdiskId: null,
    region: subject.region,
    version: '2017-09-30',
  };
  return { 'instance-identity': { document: JSON.stringify(document, null, 2) } };
}

function iamData(subject: MetadataSubject, role: { roleName: string; credentials: Record<string, unknown> }): Folder {
  const { accessKeyId, secretAccessKey, sessionToken, expiration } = role.credentials;
  const updated = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  const profile = `arn:aws:iam::${subject.accountId}:instance-profile/${role.roleName}`;
  return {
    info: JSON.stringify({ Code: 'Success', LastUpdated: updated, InstanceProfileArn: profile }, null, 2),
    'security-credentials': {
      [role.roleName]: JSON.stringify(
        {
          Code: 'Success',
          LastUpdated: updated,
          Type: 'AWS-HMAC',
          AccessKeyId: accessKeyId,
          SecretAccessKey: secretAccessKey,
          Token: sessionToken,
          Expiration: new Date(expiration as Date).toISOString().replace(/\.\d+Z$/, 'Z'),
        },
        null,
        2,
      ),
    },
  };
}

function metaData(subject: MetadataSubject): Folder {
  const groups = subject.securityGroups.map((one) => one.name).join('\n');
  const macs: Folder = {};
  for (const one of subject.interfaces) {
    macs[one.mac] = {
      'device-number': String(one.deviceNumber),
      'interface-id': one.id,
      'local-hostname': subject.hostname,
      'local-ipv4s': one.addresses.join('\n'),
      mac: one.mac,
      'owner-id': subject.accountId,
      'security-group-ids': subject.securityGroups.map((group) => group.id).join('\n'),
      'security-groups': groups,
      'subnet-id': one.subnetId,
      'subnet-ipv4-cidr-block': one.subnetCidr,
      'vpc-id': one.vpcId,
      'vpc-ipv4-cidr-block': one.vpcCidr,
      'vpc-ipv4-cidr-blocks': one.vpcCidr,
    };
  }
  return {
    'ami-id': subject.imageId,
    'ami-launch-index': String(subject.amiLaunchIndex),
    hostname: subject.hostname,
    'instance-action': 'none',
    'instance-id': subject.instanceId,
    'instance-life-cycle': 'on-demand',
    'instance-type': subject.instanceType,
    'local-hostname': subject.hostname,
    'local-ipv4': subject.localIpv4,
    ...(subject.interfaces[0] && { mac: subject.interfaces[0].mac }),
    network: { interfaces: { macs } },
    placement: {
      'availability-zone': subject.availabilityZone,
      'availability-zone-id': subject.availabilityZoneId,
      region: subject.region,
    },
    ...(subject.publicIpv4 && { 'public-ipv4': subject.publicIpv4 }),
    ...(subject.reservationId && { 'reservation-id': subject.reservationId }),
    'security-groups': groups,
    services: { domain: 'amazonaws.com', partition: 'aws' },
    ...(subject.tags && { tags: { instance: subject.tags } }),
  };
}
