import { connect, type ClientHttp2Session } from 'node:http2';
import { createConnection } from 'node:net';
import protobuf from 'protobufjs';

/** The kubelet's plugin registration and DRA plugin interfaces (pluginregistration.v1, k8s.io.kubelet.pkg.apis.dra.v1). */
const schema = protobuf.parse(
  `syntax = "proto3";
  message InfoRequest {}
  message PluginInfo { string type = 1; string name = 2; string endpoint = 3; repeated string supportedVersions = 4; }
  message RegistrationStatus { bool pluginRegistered = 1; string error = 2; }
  message RegistrationStatusResponse {}
  message Claim { string namespace = 1; string uid = 2; string name = 3; }
  message ClaimsRequest { repeated Claim claims = 1; }
  message Device { repeated string requestNames = 1; string poolName = 2; string deviceName = 3; repeated string cdiDeviceIds = 4; string shareId = 5; }
  message Prepared { repeated Device devices = 1; string error = 2; }
  message PrepareResponse { map<string, Prepared> claims = 1; }
  message Unprepared { string error = 1; }
  message UnprepareResponse { map<string, Unprepared> claims = 1; }`,
).root;

export interface PluginInfo {
  type: string;
  name: string;
  endpoint: string;
  supportedVersions: string[];
}
export interface ClaimReference {
  namespace: string;
  uid: string;
  name: string;
}
export interface PreparedDevice {
  /** Empty: of every request. */
  requestNames: string[];
  poolName: string;
  deviceName: string;
  cdiDeviceIds: string[];
}

const methods = {
  GetInfo: { path: '/pluginregistration.Registration/GetInfo', request: 'InfoRequest', response: 'PluginInfo' },
  NotifyRegistrationStatus: {
    path: '/pluginregistration.Registration/NotifyRegistrationStatus',
    request: 'RegistrationStatus',
    response: 'RegistrationStatusResponse',
  },
  NodePrepareResources: { path: 'NodePrepareResources', request: 'ClaimsRequest', response: 'PrepareResponse' },
  NodeUnprepareResources: { path: 'NodeUnprepareResources', request: 'ClaimsRequest', response: 'UnprepareResponse' },
};

/** Versions of the DRA plugin service, the preferred first. Their messages are the same. */
const services = [
  { version: 'v1.DRAPlugin', service: 'k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin' },
  { version: 'v1beta1.DRAPlugin', service: 'k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin' },
];
export const serviceOf = (supported: readonly string[]): string | undefined => services.find(({ version }) => supported.includes(version))?.service;

/** One gRPC call to a plugin's socket, on a connection of its own. Rejects with the status' message. */
async function call(socket: string, method: keyof typeof methods, message: object, timeoutMs: number, service?: string): Promise<any> {
  const { path, request, response } = methods[method];
  const body = schema.lookupType(request).encode(message).finish();
  const head = Buffer.alloc(5);
  head.writeUInt32BE(body.length, 1);
  const answer = await exchange(socket, service ? `/${service}/${path}` : path, Buffer.concat([head, body]), timeoutMs);
  const type = schema.lookupType(response);
  return type.toObject(type.decode(answer.subarray(5)), { defaults: true });
}

function exchange(socket: string, path: string, message: Buffer, timeoutMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const session: ClientHttp2Session = connect('http://localhost', { createConnection: () => createConnection(socket) });
    const done = (error: Error | undefined, answer?: Buffer) => {
      clearTimeout(timer);
      session.destroy();
      if (error) reject(error);
      else resolve(answer!);
    };
    const timer = setTimeout(() => done(new Error(`${socket}: no answer within ${timeoutMs / 1000} s`)), timeoutMs);
    session.on('error', (error) => done(error));
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      'user-agent': 'kumulus-kubelet',
    });
    const chunks: Buffer[] = [];
    let status: { code: string; text: string } | undefined;
    const read = (headers: Record<string, unknown>) => {
      if (headers['grpc-status'] !== undefined)
        status = { code: String(headers['grpc-status']), text: decodeURIComponent(String(headers['grpc-message'] ?? '')) };
    };
    stream.on('response', read);
    stream.on('trailers', read);
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', (error) => done(error));
    stream.on('close', () => {
      if (!status) done(new Error(`${socket}: the connection ended without an answer`));
      else if (status.code !== '0') done(new Error(status.text || `rpc error: code = ${status.code}`));
      else done(undefined, Buffer.concat(chunks));
    });
    stream.end(message);
  });
}

const registrationMs = 10_000;
/** As upstream's: a driver may have to wait for its hardware. */
const prepareMs = 45_000;

export const getInfo = (socket: string): Promise<PluginInfo> => call(socket, 'GetInfo', {}, registrationMs);

export const notifyRegistration = (socket: string, error?: string): Promise<unknown> =>
  call(socket, 'NotifyRegistrationStatus', { pluginRegistered: error === undefined, error: error ?? '' }, registrationMs);

/** By claim uid. */
export async function nodePrepareResources(
  plugin: { endpoint: string; service: string },
  claims: ClaimReference[],
): Promise<Record<string, { devices: PreparedDevice[]; error: string }>> {
  return (await call(plugin.endpoint, 'NodePrepareResources', { claims }, prepareMs, plugin.service)).claims;
}

export async function nodeUnprepareResources(
  plugin: { endpoint: string; service: string },
  claims: ClaimReference[],
): Promise<Record<string, { error: string }>> {
  return (await call(plugin.endpoint, 'NodeUnprepareResources', { claims }, prepareMs, plugin.service)).claims;
}
