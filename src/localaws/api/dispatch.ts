import type { IncomingMessage } from 'node:http';
import type { CallContext, Cloud } from './cloud.ts';
import { now } from './cloud.ts';
import { AwsError } from './errors.ts';
import { requestId as newRequestId } from './ids.ts';
import { failure, inDialect, type Protocol, type WireResponse } from './protocol/failures.ts';
import { decodeJson, encodeJson } from './protocol/json.ts';
import { QueryDecoder } from './protocol/query.ts';
import { checkSignature, readSignature, type SignedRequest } from './protocol/sigv4.ts';
import { encodeMembers } from './protocol/xml.ts';
import { type Model, type Service, services } from './services.ts';

const byName = new Map(services.map((service) => [service.name, service]));
const byTarget = new Map(services.filter((service) => service.target).map((service) => [service.target, service]));
const decoders = { ec2: new QueryDecoder('ec2'), query: new QueryDecoder('query') };
/** Services whose signatures name us-east-1 wherever they are called from. */
const globalServices = new Set(['iam', 'sts']);

/** Bytes of the largest body that an operation may have. */
const largestBody = 1024 * 1024;

async function readBody(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of message) {
    size += chunk.length;
    if (size > largestBody) throw new AwsError('RequestEntityTooLarge', `The body is larger than ${largestBody} bytes`, 413);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

interface Request {
  signed: SignedRequest;
  parameters: URLSearchParams;
  /** X-Amz-Target's parts. */
  target: string | undefined;
  operation: string | undefined;
}

function parse(message: IncomingMessage, body: Buffer): Request {
  const headers: Record<string, string | undefined> = {};
  for (const [name, values] of Object.entries(message.headersDistinct)) headers[name] = values?.join(',');
  const url = message.url ?? '/';
  const mark = url.indexOf('?');
  const target = headers['x-amz-target'];
  const form = target === undefined && message.method === 'POST';
  const parameters = new URLSearchParams(form ? body.toString('utf8') : '');
  if (mark >= 0) for (const [name, value] of new URLSearchParams(url.slice(mark + 1))) if (!name.startsWith('X-Amz-')) parameters.append(name, value);
  const dot = target?.lastIndexOf('.') ?? -1;
  return {
    signed: { method: message.method ?? 'GET', url, headers, body },
    parameters,
    target: dot > 0 ? target!.slice(0, dot) : undefined,
    operation: dot > 0 ? target!.slice(dot + 1) : (parameters.get('Action') ?? undefined),
  };
}

/** The service that a request seems to be for before its signature is read: only the form of an error depends on it. */
function guess(request: Request | undefined): Service | undefined {
  if (request?.target !== undefined) return byTarget.get(request.target) ?? byName.get('ssm');
  return request?.parameters.get('Version') === '2016-11-15' ? byName.get('ec2') : byName.get('sts');
}

function authenticate(cloud: Cloud, request: Request) {
  const signature = readSignature(request.signed);
  if (!signature) throw new AwsError('MissingAuthenticationToken', 'Request is missing Authentication Token', 403);
  const service = byName.get(signature.service);
  if (!service) throw new AwsError('UnknownService', `The embedded AWS has no service ${signature.service.slice(0, 100)}`, 400);
  if (request.target !== service.target) {
    throw new AwsError('SignatureDoesNotMatch', `Credential should be scoped to correct service: '${service.name}'.`, 403);
  }
  try {
    const { principal, secret } = cloud.keys.find(signature.accessKeyId, signature.sessionToken);
    checkSignature(request.signed, signature, secret, cloud.clock.now());
    if (signature.region !== cloud.region && !(globalServices.has(service.name) && signature.region === 'us-east-1')) {
      throw new AwsError('SignatureDoesNotMatch', `Credential should be scoped to a valid region, not '${signature.region}'. `, 403);
    }
    return { service, principal };
  } catch (error) {
    throw error instanceof AwsError ? Object.assign(error, { service }) : error;
  }
}

const readingNames = /^(Describe|Get|List)/;

/** Runs an operation: once for each client token, and only as a rehearsal where DryRun is asked for. */
async function perform(call: CallContext, service: Service, operation: string, model: Model | undefined, input: any): Promise<unknown> {
  const handler = service.operations[operation];
  // What has no model has no handler.
  if (!handler || !model) {
    throw new AwsError('UnsupportedOperation', `The embedded AWS does not implement ${operation} of ${service.name}.`, 400);
  }
  const reads = readingNames.test(operation);
  if (!reads) await call.state.writable();
  if (input.DryRun === true) {
    call.state.rehearse(() => handler(input, call));
    throw new AwsError('DryRunOperation', 'Request would have succeeded, but DryRun flag is set.', 412);
  }
  const commits = call.state.commits;
  const token =
    service.protocol === 'ec2' && !reads && typeof input.ClientToken === 'string' && input.ClientToken !== '' ? input.ClientToken : undefined;
  const output = await call.state.transact(() => (token === undefined ? handler(input, call) : once(call, operation, token, input, handler)));
  if (call.state.commits !== commits) await call.state.durable();
  return model.output.kind === 'unit' ? undefined : output;
}

const tokenLife = 24 * 3600_000;

function once(call: CallContext, operation: string, token: string, input: any, handler: (input: any, call: CallContext) => unknown): unknown {
  const { clientTokens } = call.tables;
  const key = `${operation} ${token}`;
  const parameters = JSON.stringify(input);
  const known = clientTokens.get(key);
  if (known && call.clock.now() - known.at.getTime() < tokenLife) {
    if (known.parameters === parameters) return known.output;
    throw new AwsError('IdempotentParameterMismatch', 'The request uses the same client token as a previous, but non-identical request.');
  }
  // Tokens are kept in the order of their time: the oldest ones stand first.
  for (const [old, record] of clientTokens.first(10)) {
    if (call.clock.now() - record.at.getTime() >= tokenLife) clientTokens.delete(old);
  }
  const output = handler(input, call);
  clientTokens.put(key, { parameters, output, at: now(call) });
  return output;
}

function success(service: Service, operation: string, model: Model, output: unknown, requestId: string): WireResponse {
  if (service.protocol === 'json') {
    return {
      status: 200,
      headers: { 'content-type': 'application/x-amz-json-1.1', 'x-amzn-requestid': requestId },
      body: encodeJson(model.output, output),
    };
  }
  const headers = { 'content-type': 'text/xml;charset=UTF-8', 'x-amzn-requestid': requestId };
  if (service.protocol === 'ec2') {
    // Operations without a result say that they succeeded.
    const members = model.output.kind === 'structure' ? encodeMembers(model.output, output) : '<return>true</return>';
    const body = `<?xml version="1.0" encoding="UTF-8"?>\n<${operation}Response xmlns="${service.xmlNamespace}"><requestId>${requestId}</requestId>${members}</${operation}Response>`;
    return { status: 200, headers, body };
  }
  const result = model.output.kind === 'structure' ? `<${operation}Result>${encodeMembers(model.output, output)}</${operation}Result>` : '';
  const body = `<${operation}Response xmlns="${service.xmlNamespace}">${result}<ResponseMetadata><RequestId>${requestId}</RequestId></ResponseMetadata></${operation}Response>`;
  return { status: 200, headers, body };
}

async function recorded<T>(cloud: Cloud, caller: string, service: string, operation: string, input: unknown, run: () => Promise<T>): Promise<T> {
  const at = cloud.clock.now();
  const call = { at, service, operation, input, caller };
  try {
    const output = await cloud.calls.under(service, operation, run);
    cloud.calls.record({ ...call, durationMs: cloud.clock.now() - at });
    return output;
  } catch (error: any) {
    const known = error instanceof AwsError ? error : new AwsError('InternalError', String(error?.message));
    cloud.calls.record({ ...call, code: known.code, message: known.message, durationMs: cloud.clock.now() - at });
    throw error;
  }
}

/** Answers one request of an AWS protocol: authenticates it, decodes it, runs its operation and encodes what that returns. */
export async function dispatch(cloud: Cloud, message: IncomingMessage): Promise<WireResponse> {
  const requestId = newRequestId();
  let service: Service | undefined;
  let request: Request | undefined;
  let authenticated = false;
  try {
    request = parse(message, await readBody(message));
    const caller = authenticate(cloud, request);
    service = caller.service;
    authenticated = true;
    const operation = request.operation;
    await service.load();
    const model = operation === undefined ? undefined : service.model(operation);
    if (operation === undefined || (!model && !service.lacks(operation))) {
      if (service.protocol === 'json') throw new AwsError('UnknownOperationException', `Unknown operation ${operation}`, 400);
      throw new AwsError('InvalidAction', `The action ${operation ?? ''} is not valid for this web service.`, 400);
    }
    // What an operation that is not here was asked cannot be read.
    const input = !model
      ? {}
      : service.protocol === 'json'
        ? decodeJson(model.input, request.signed.body.toString())
        : decoders[service.protocol].decode(model.input, request.parameters);
    const call: CallContext = { ...cloud, requestId, principal: caller.principal };
    const known = service;
    const output = await recorded(cloud, caller.principal.arn, known.name, operation, input, () => perform(call, known, operation, model, input));
    return success(service, operation, model!, output, requestId);
  } catch (error: any) {
    service ??= error?.service ?? guess(request);
    const protocol: Protocol = service?.protocol ?? 'query';
    if (error instanceof AwsError) {
      cloud.log.debug({ operation: request?.operation, code: error.code, message: error.message }, 'refused');
      return failure(protocol, service?.xmlNamespace ?? '', authenticated ? error : inDialect(protocol, error), requestId);
    }
    cloud.log.error({ err: error, operation: request?.operation, requestId }, 'an operation failed');
    const internal = new AwsError(protocol === 'ec2' ? 'InternalError' : 'InternalFailure', 'An internal error has occurred', 500);
    return failure(protocol, service?.xmlNamespace ?? '', internal, requestId);
  }
}
